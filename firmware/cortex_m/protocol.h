/* Serial protocol v1: lines of text that a person can type, numbered and checksummed so that a lost
 * byte is noticed. docs/protocol.md is the definition. Pure C: no hardware, no allocation; the host
 * compiles the same file for its tests.
 */
#ifndef ESV_PROTOCOL_H
#define ESV_PROTOCOL_H

#include <stdint.h>

enum {
    PROTOCOL_VERSION = 1,
    PROTOCOL_DATA_BYTES = 128, /* of a `load` line, two hex digits each */
    PROTOCOL_LINE_BYTES = 320, /* the longest request, its end-of-line not counted */
};

/* Collects the bytes of one request. All zero is a valid start. */
typedef struct {
    char text[PROTOCOL_LINE_BYTES + 1];
    uint32_t length;
    uint32_t dropped; /* bytes that found no room: the line is refused when it ends */
    uint8_t ended;    /* the next byte starts a new line */
} protocol_line;

typedef enum {
    PROTOCOL_REQUEST,
    PROTOCOL_EMPTY,    /* a blank line: nothing to answer */
    PROTOCOL_CHECKSUM, /* number or checksum missing, malformed or wrong */
    PROTOCOL_TOO_LONG,
} protocol_status;

typedef struct {
    uint32_t number;     /* 0 for a line typed by a person */
    const char *command; /* both end in NUL and point into the line */
    const char *arguments;
} protocol_request;

/* CRC-16/CCITT-FALSE of one more byte; a message starts from 0xFFFF. */
uint16_t protocol_crc16(uint16_t crc, uint8_t byte);

enum { PROTOCOL_LINE_ENDED = 1, PROTOCOL_MLPERF_ENDED = 2 };

/* Take one byte; not 0 when it ended a line, which stays valid until the next call. A `%` ends a
 * command of MLPerf Tiny's language, in a line that carries neither `#` nor `~`. */
int protocol_push(protocol_line *line, uint8_t byte);

/* Split a finished line in place. */
protocol_status protocol_parse(protocol_line *line, protocol_request *request);

/* Read an unsigned decimal and the blanks after it; 0 when there is none or it exceeds 32 bits. */
int protocol_number(const char **cursor, uint32_t *value);

#define DECIMAL_BYTES 22 /* of the text of an int64_t: sign, 19 digits and the end, and to spare */

/* The decimal text of a number, inside `text`. */
const char *decimal(int64_t value, char text[DECIMAL_BYTES]);

/* Decode hex digit pairs up to the end of `text` into bytes (capacity,); the number of bytes, or -1
 * when it is odd, too long or not hex. */
int32_t protocol_hex(const char *text, uint8_t *bytes, uint32_t capacity);

/* One reply line: begin with its first word, add words or key=value pairs, end. */
void reply_begin(uint32_t number, const char *word);
void reply_word(const char *word);
void reply_pair(const char *key, const char *value);
void reply_count(const char *key, uint32_t value);
void reply_hex32(const char *key, uint32_t value);
void reply_signed(int32_t value);
void reply_unsigned(uint64_t value);
void reply_end(void);

/* Whole lines that end an answer. */
void reply_ready(uint32_t number);
void reply_error(uint32_t number, const char *word, const char *text);

/* Send one byte: supplied by the board. */
void protocol_put(uint8_t byte);

#endif
