/* What every runner on Linux does to be measured: clock, instruction counter, memory. */
#ifndef EDGESVIT_PROBE_H
#define EDGESVIT_PROBE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PROBE_PAINT 0xA5 /* fills an arena before use */

typedef struct {
    const uint8_t *data; /* (bytes) */
    size_t bytes;
} probe_file;

/* A counting emulator plug-in brackets an inference by the addresses of these two. */
void edgesvit_roi_begin(void);
void edgesvit_roi_end(void);

/* One line on stderr, then the end. */
void probe_fail(const char *what, const char *why) __attribute__((noreturn));

/* A file that is not empty, mapped to be read; ends the process when that cannot be. */
probe_file probe_map(const char *path);

/* A counter of our own instructions, -1 where the kernel gives none; and what it says. */
int probe_open_counter(void);
int64_t probe_count(int fd);

int64_t probe_ns(void);

/* Up to the highest painted byte that somebody wrote. */
size_t probe_used(const uint8_t *arena, size_t bytes);

/* A field of /proc/self/status in bytes, -1 when it is not told. */
long probe_status_bytes(const char *field);

/* Bytes of our own segments in memory that are writable (data and bss), or not (code): those of the
 * executable and of the libraries that lie beside it. */
size_t probe_loaded_bytes(int writable);

#ifdef __cplusplus
}
#endif

#endif
