/* Windows for Armv7E-M's DSP extension (Cortex-M4, M7): words are pairs of pixels as halves, those
 * of both windows in turn, and SMLAD multiplies two pixels with their weights.
 */
#include "encode_windows.h"

typedef int esv_no_windows_dsp; /* a file must not be empty */

#ifdef ESV_DSP
#include "weights.h"

/* Bytes 0 and 2 of four pixels are a pair, and 1 and 3. Of the rest of a row two are one. */
static uint32_t pairs_of(uint32_t inputs)
{
    return inputs / 4 * 2 + (inputs % 4 + 1) / 2;
}

uint32_t esv_window_words(const esv_window *w)
{
    return w->kernel * pairs_of((uint32_t)w->kernel * w->channels);
}

uint8_t *esv_window_begin(uint32_t *windows, uint32_t words, uint32_t number)
{
    (void)words;
    return (uint8_t *)(windows + number);
}

/* Bytes 0 and 2 of a word, or 1 and 3, as halves. */
static ESV_INLINE void put_pairs(uint32_t word, uint32_t *to)
{
    uint32_t even, odd;
    __asm("uxtb16 %0, %1" : "=r"(even) : "r"(word));
    __asm("uxtb16 %0, %1, ror #8" : "=r"(odd) : "r"(word));
    to[0] = even;
    to[2] = odd;
}

uint8_t *esv_window_row(const uint8_t *from, uint32_t count, uint8_t *place)
{
    uint32_t *to = (uint32_t *)(void *)place;
    for (; count >= 4; count -= 4, from += 4, to += 4) {
        put_pairs(esv_dsp_word(from), to);
    }
    if (count == 3) {
        put_pairs((uint32_t)from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16, to);
        return (uint8_t *)(to + 4);
    }
    if (count) {
        *to = from[0] | (count == 2 ? (uint32_t)from[1] << 16 : 0);
        to += 2;
    }
    return (uint8_t *)to;
}

/* Where input i of a row of `count` is: the number of its half. */
static uint32_t half_of(uint32_t i, uint32_t count)
{
    uint32_t group = i / 4 * 4;
    return count - group == 2 ? i : group + i % 2 * 2 + i % 4 / 2;
}

ESV_RARE void esv_window_pack(const esv_window *w, const esv_conv *conv, uint32_t first,
                              uint32_t words, int32_t *to)
{
    uint32_t count = (uint32_t)w->kernel * w->channels, left = w->out_channels - first;
    uint32_t lanes = esv_lanes_of(w->out_channels, first / ESV_LANES * ESV_LANES);
    uint32_t n = left < ESV_GROUP ? left : ESV_GROUP, bytes = esv_row_bytes(conv->bits, lanes);
    const uint8_t *row = esv_tile_at(conv, w->kernel * count, first);
    int16_t *half = (int16_t *)(void *)(to + ESV_GROUP);
    int8_t unpacked[ESV_LANES];
    memset(to, 0, ESV_GROUP * (1 + words) * sizeof *to);
    memcpy(to, conv->bias + first, n * sizeof *to);
    for (uint32_t y = 0; y < w->kernel; y++, half += 2 * ESV_GROUP * pairs_of(count)) {
        for (uint32_t i = 0; i < count; i++, row += bytes) {
            const int8_t *weight = esv_row(row, conv->bits, unpacked) + first % ESV_LANES;
            uint32_t at = half_of(i, count);
            for (uint32_t c = 0; c < n; c++) {
                half[at / 2 * 2 * ESV_GROUP + 2 * c + at % 2] = weight[c];
            }
        }
    }
}

/* A pair of each window, times those of four channels. r0 is at the windows, r1 at the weights; r4,
 * r6, r8 and r10 are the sums of window 0, the registers behind them those of window 1. */
#define FIVE_PAIRS                                                                                 \
    ".rept 5\n"                                                                                    \
    "ldrd r12, lr, [r0], #8\n"                                                                     \
    "ldrd r2, r3, [r1], #8\n"                                                                      \
    "smlad r4, r12, r2, r4\n"                                                                      \
    "smlad r5, lr, r2, r5\n"                                                                       \
    "smlad r6, r12, r3, r6\n"                                                                      \
    "smlad r7, lr, r3, r7\n"                                                                       \
    "ldrd r2, r3, [r1], #8\n"                                                                      \
    "smlad r8, r12, r2, r8\n"                                                                      \
    "smlad r9, lr, r2, r9\n"                                                                       \
    "smlad r10, r12, r3, r10\n"                                                                    \
    "smlad r11, lr, r3, r11\n"                                                                     \
    ".endr\n"
#define PAIR_CODE 44 /* bytes of a pair's code */

/* Five pairs a turn, of which the first turn of a group skips as many as do not make five. */
void esv_window_multiply(const int32_t *packed, uint32_t groups, const uint32_t *windows,
                         uint32_t words, int32_t *currents)
{
    const uint32_t *end = windows + 2 * words;
    const int32_t *last = packed + groups * ESV_GROUP * (1 + words);
    const void *entry;
    register const uint32_t *window __asm("r0") = windows;
    register const int32_t *weight __asm("r1") = packed;
    register uint32_t skipped __asm("r2") = PAIR_CODE * (4 - (words + 4) % 5);
    __asm volatile("adr.w r12, 1f + 1\n"
                   "add r12, r12, r2\n"
                   "str r12, %[entry]\n"
                   "0:\n"
                   "ldrd r4, r6, [r1], #8\n"
                   "ldrd r8, r10, [r1], #8\n"
                   "ldr r0, %[windows]\n"
                   "ldr r2, %[entry]\n"
                   "mov r5, r4\n"
                   "mov r7, r6\n"
                   "mov r9, r8\n"
                   "mov r11, r10\n"
                   "bx r2\n"
                   ".p2align 2\n"
                   "1:\n"
                   FIVE_PAIRS
                   "ldr r2, %[end]\n"
                   "cmp r0, r2\n"
                   "bne 1b\n"
                   "ldr r2, %[currents]\n"
                   "stm r2!, {r4, r6, r8, r10}\n"
                   "stm r2!, {r5, r7, r9, r11}\n"
                   "str r2, %[currents]\n"
                   "ldr r2, %[last]\n"
                   "cmp r1, r2\n"
                   "bne 0b\n"
                   : "+r"(window), "+r"(weight), "+r"(skipped), [entry] "=m"(entry),
                     [currents] "+m"(currents)
                   : [windows] "m"(windows), [end] "m"(end), [last] "m"(last)
                   : "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr", "cc",
                     "memory");
}

/* The difference is below 0, and in its upper bits all ones, where a current misses. */
static ESV_INLINE void fire(const int32_t *current, const int32_t *reach, uint32_t groups,
                            uint32_t steps, const uint8_t *codes, uint8_t *out, uint8_t *other)
{
    codes += steps;
    for (; groups; groups--, current += ESV_GROUP, reach += ESV_GROUP * (steps - 1)) {
        for (uint32_t c = 0; c < ESV_GROUP; c++, current++, reach++) {
            int32_t x = current[0], y = current[ESV_GROUP], missed = 0, more = 0;
            for (uint32_t t = 0; t < steps; t++) {
                int32_t r = reach[ESV_GROUP * t];
                missed += (x - r) >> 31;
                more += (y - r) >> 31;
            }
            *other++ = codes[more];
            *out++ = codes[missed];
        }
    }
}

void esv_window_fire(const int32_t *currents, const int32_t *reach, uint32_t groups,
                     uint32_t steps, const uint8_t *codes, uint8_t *out, uint8_t *other)
{
    if (steps == 2) {
        fire(currents, reach, groups, 2, codes, out, other);
    } else if (steps == 4) {
        fire(currents, reach, groups, 4, codes, out, other);
    } else {
        fire(currents, reach, groups, steps, codes, out, other);
    }
}
#endif
