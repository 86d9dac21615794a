/* Rows of 8-bit weights, added two channels at a time (spike_dsp.h). */
#include "spike_dsp.h"

#ifdef ESV_DSP

/* Eight rows of 16 int8: r0 is row 0, r1 is at the number of the next row, r3 at the row, r4 to r11
 * are the sums. The number of the next row is read and its address made while this one is added, so
 * that nothing waits for a load. One number too many is read: lists are never full. */
#define EIGHT_ROWS                                                                                 \
    ".rept 8\n"                                                                                    \
    "ldrd r12, lr, [r3]\n"                                                                         \
    "ldrh.w r2, [r1], #2\n"                                                                        \
    "sxtab16 r4, r4, r12\n"                                                                        \
    "sxtab16 r5, r5, r12, ror #8\n"                                                                \
    "sxtab16 r6, r6, lr\n"                                                                         \
    "sxtab16 r7, r7, lr, ror #8\n"                                                                 \
    "ldrd r12, lr, [r3, #8]\n"                                                                     \
    "add.w r3, r0, r2, lsl #4\n"                                                                   \
    "sxtab16 r8, r8, r12\n"                                                                        \
    "sxtab16 r9, r9, r12, ror #8\n"                                                                \
    "sxtab16 r10, r10, lr\n"                                                                       \
    "sxtab16 r11, r11, lr, ror #8\n"                                                               \
    ".endr\n"

/* *to = *from + rows of 16 int8. Eight rows a turn, of which the first turn skips as many as do not
 * make eight; a turn ends with a look at the end of the list, which has no register. */
static ESV_APART void add_rows_8(const void *rows, const uint16_t *row, const sums *from,
                                 uint32_t count, sums *to)
{
    const uint16_t *end = row + count;
    register const void *base __asm("r0") = rows;
    register const uint16_t *next __asm("r1") = row;
    register const sums *source __asm("r2") = from;
    register uint32_t skipped __asm("r3") = 48 * ((0u - count) & 7); /* bytes of code */
    __asm volatile("ldm r2, {r4-r11}\n"
                   "adr.w r12, 1f\n"
                   "add r12, r12, r3\n"
                   "orr r12, r12, #1\n"
                   "ldrh r2, [r1], #2\n"
                   "add r3, r0, r2, lsl #4\n"
                   "bx r12\n"
                   ".p2align 2\n"
                   "1:\n"
                   EIGHT_ROWS
                   "ldr r2, %[end]\n"
                   "cmp r1, r2\n"
                   "bls 1b\n"
                   "ldr r2, %[to]\n"
                   "stm r2, {r4-r11}\n"
                   : "+r"(next), "+r"(source), "+r"(skipped)
                   : "r"(base), [end] "m"(end), [to] "m"(to)
                   : "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr", "cc", "memory");
}

/* Rows of 8 bytes, or of 4, in the same way; the other sums stay as they are. */
#define ROW_OF_8                                                                                   \
    "ldrd r12, lr, [r3]\n"                                                                         \
    "ldrh.w r2, [r1], #2\n"                                                                        \
    "sxtab16 r4, r4, r12\n"                                                                        \
    "sxtab16 r5, r5, r12, ror #8\n"                                                                \
    "sxtab16 r6, r6, lr\n"                                                                         \
    "sxtab16 r7, r7, lr, ror #8\n"                                                                 \
    "add.w r3, r0, r2, lsl #3\n"
#define ROW_OF_4                                                                                   \
    "ldr.w r12, [r3]\n"                                                                            \
    "ldrh.w r2, [r1], #2\n"                                                                        \
    "sxtab16 r4, r4, r12\n"                                                                        \
    "sxtab16 r5, r5, r12, ror #8\n"                                                                \
    "add.w r3, r0, r2, lsl #2\n"

/* Continue with the list whose count is at `count` in esv_lists: r1 is beyond the number that makes
 * r3, as the list before left them. */
#define LIST(count)                                                                                \
    "ldr r2, %[lists]\n"                                                                           \
    "ldrh r2, [r2, #" #count "]\n"                                                                 \
    "cbz r2, 2f\n"                                                                                 \
    "add lr, r1, r2, lsl #1\n"                                                                     \
    "str lr, %[end]\n"                                                                             \
    "rsb r2, r2, #0\n"                                                                             \
    "and r2, r2, #7\n"                                                                             \
    "ldr lr, %[entry]\n"                                                                           \
    "ldr r12, %[code]\n"                                                                           \
    "mla r12, r2, r12, lr\n"                                                                       \
    "adr.w lr, 2f + 1\n"                                                                           \
    "str lr, %[back]\n"                                                                            \
    "mov pc, r12\n"                                                                                \
    ".p2align 2\n"                                                                                 \
    "2:\n"

/* What both steps of a pair have, and then what each has more. */
#define STEP(place)                                                                                \
    "ldr r2, %[mixed]\n"                                                                           \
    "cbz r2, 3f\n"                                                                                 \
    "ldr r2, %[sums]\n"                                                                            \
    "add r2, r2, #" #place "\n"                                                                    \
    ADD_TWO(r4, r5) ADD_TWO(r6, r7) ADD_TWO(r8, r9) ADD_TWO(r10, r11)                              \
    "3:\n"

#define ADD_TWO(a, b)                                                                              \
    "ldrd r12, lr, [r2], #8\n"                                                                     \
    "sadd16 " #a ", " #a ", r12\n"                                                                 \
    "sadd16 " #b ", " #b ", lr\n"

#define PUT(place) "ldr r2, %[sums]\nadd r2, r2, #" #place "\nstm r2, {r4-r11}\n"
#define GET(place) "ldr r2, %[sums]\nadd r2, r2, #" #place "\nldm r2, {r4-r11}\n"

#define PAIR(both, first, second, count_both, count_first, count_second)                           \
    GET(both) LIST(count_both) PUT(both)                                                           \
    STEP(first) LIST(count_first) PUT(first)                                                       \
    GET(both) STEP(second) LIST(count_second) PUT(second)

#define ROWS_AT(label, instructions)                                                               \
    ".p2align 2\n" #label ":\n" instructions                                                       \
    "ldr r2, %[end]\n"                                                                             \
    "cmp r1, r2\n"                                                                                 \
    "blo " #label "b\n"                                                                            \
    "ldr pc, %[back]\n"

/* Its lists follow each other in the order in which they are added here, in code that they share:
 * eight rows a turn, of which the first turn skips as many as do not make eight. */
void esv_dsp_add_steps(const esv_tile *tile, const esv_lists *lists, uint32_t mixed,
                       esv_dsp_steps *s)
{
    uint32_t wide = tile->row_bytes == ESV_LANES, code = wide ? 48 : 28; /* bytes of a row's */
    uint32_t more = tile->time_steps > 2;
    const void *end, *back, *entry;
    register const void *base __asm("r0") = tile->rows;
    register const uint16_t *next __asm("r1") = lists->row + lists->first[3];
    register const uint8_t *row __asm("r3") = (const uint8_t *)base + *next++ * tile->row_bytes;
    register uint32_t kind __asm("r2") = wide;
    __asm volatile("adr.w r12, 8f\n"
                   "cbnz r2, 4f\n"
                   "adr.w r12, 7f\n"
                   "4:\n"
                   "str r12, %[entry]\n"
                   PAIR(0, 64, 96, 42, 38, 40)
                   "ldr r2, %[more]\n"
                   "cbnz r2, 5f\n"
                   "b.w 9f\n"
                   "5:\n"
                   PAIR(32, 128, 160, 60, 44, 52)
                   "b.w 9f\n"
                   ROWS_AT(8, EIGHT_ROWS)
                   ROWS_AT(7, ".rept 8\n" ROW_OF_8 ".endr\n")
                   "9:\n"
                   : "+r"(next), "+r"(row), "+r"(kind), [end] "=m"(end), [back] "=m"(back),
                     [entry] "=m"(entry)
                   : "r"(base), [lists] "m"(lists), [mixed] "m"(mixed), [sums] "m"(s),
                     [code] "m"(code), [more] "m"(more)
                   : "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr", "cc",
                     "memory");
}

/* s += rows; code: bytes of one row's. */
#define ADD_NARROW(name, instructions, shift, code)                                                \
    static ESV_APART void name(const void *rows, const uint16_t *row, uint32_t count, sums *s)     \
    {                                                                                              \
        const uint16_t *end = row + count;                                                         \
        register const void *base __asm("r0") = rows;                                              \
        register const uint16_t *next __asm("r1") = row;                                           \
        register sums *to __asm("r2") = s;                                                         \
        register uint32_t skipped __asm("r3") = code * ((0u - count) & 7);                         \
        __asm volatile("ldm r2, {r4-r7}\n"                                                         \
                       "mov r8, r2\n"                                                              \
                       "adr.w r12, 1f + 1\n"                                                       \
                       "add r12, r12, r3\n"                                                        \
                       "ldrh r2, [r1], #2\n"                                                       \
                       "add r3, r0, r2, lsl #" #shift "\n"                                         \
                       "bx r12\n"                                                                  \
                       ".p2align 2\n"                                                              \
                       "1:\n"                                                                      \
                       ".rept 8\n" instructions ".endr\n"                                         \
                       "cmp r1, %[end]\n"                                                          \
                       "bls 1b\n"                                                                  \
                       "stm r8, {r4-r7}\n"                                                         \
                       : "+r"(next), "+r"(to), "+r"(skipped)                                       \
                       : "r"(base), [end] "r"(end)                                                 \
                       : "r4", "r5", "r6", "r7", "r8", "r12", "lr", "cc", "memory");               \
    }
ADD_NARROW(add_eights, ROW_OF_8, 3, 28)
ADD_NARROW(add_quarters, ROW_OF_4, 2, 20)

/* Rows of `width` int8, aligned to nothing. */
static ESV_APART void add_rows_of(const uint8_t *rows, uint32_t width, const uint16_t *row,
                                  uint32_t count, sums *s)
{
    uint32_t word[WORDS] = {0};
    for (; count; count--) {
        memcpy(word, rows + *row++ * width, width);
        for (uint32_t i = 0; i < WORDS; i++) {
            __asm("sxtab16 %0, %0, %1" : "+r"(s->pair[2 * i]) : "r"(word[i]));
            __asm("sxtab16 %0, %0, %1, ror #8" : "+r"(s->pair[2 * i + 1]) : "r"(word[i]));
        }
    }
}

static void add_narrow(const esv_tile *tile, const uint16_t *row, uint32_t count, sums *s)
{
    if (tile->width == 8) {
        add_eights(tile->rows, row, count, s);
    } else if (tile->width == 4) {
        add_quarters(tile->rows, row, count, s);
    } else {
        add_rows_of(tile->rows, tile->width, row, count, s);
    }
}

static ESV_APART void add_others(const esv_tile *tile, const uint16_t *row, uint32_t count,
                                 const sums *from, sums *to)
{
    *to = *from;
    if (!count) {
        return;
    }
    if (tile->bits < 8) {
        esv_dsp_add_packed(tile, row, count, to);
    } else {
        add_narrow(tile, row, count, to);
    }
}

/* Rows of 16 bytes are those of 16 channels of 8 bits. */
void esv_dsp_add_rows(const esv_tile *tile, const uint16_t *row, uint32_t count, const sums *from,
                      sums *to)
{
    if (tile->row_bytes == ESV_LANES && count) {
        add_rows_8(tile->rows, row, from, count, to);
    } else if (tile->bits == 4 && count) {
        esv_dsp_add_fours(tile, row, count, from, to);
    } else {
        add_others(tile, row, count, from, to);
    }
}

#else
typedef int esv_not_empty; /* C wants a declaration in every file */
#endif
