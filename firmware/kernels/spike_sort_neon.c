/* The spiking convolution on AArch64: which inputs fire, sorted into lists.
 *
 * The numbers of all that fired are written first, found 64 bytes at a time; each of them then goes
 * to the end of its list, and the lists are copied behind each other.
 */
#if defined(__aarch64__) && defined(__ARM_NEON)

#include "spike_conv_neon.h"

/* Of each byte: where its bits are, lowest first, one a byte; and the size of their list. */
#define BIT(b, i) ((uint64_t)((b) >> (i) & 1))
#define PUT(b, i, rest) ((rest) * (1 + 255 * BIT(b, i)) + (i) * BIT(b, i))
#define PLACES(b)                                                                                  \
    PUT(b, 0, PUT(b, 1, PUT(b, 2, PUT(b, 3, PUT(b, 4, PUT(b, 5, PUT(b, 6, 7 * BIT(b, 7))))))))
#define LENGTH(b)                                                                                  \
    (uint8_t)(2 * (BIT(b, 0) + BIT(b, 1) + BIT(b, 2) + BIT(b, 3) + BIT(b, 4) + BIT(b, 5) +         \
                   BIT(b, 6) + BIT(b, 7)))
#define EACH_4(f, b) f(b), f((b) + 1), f((b) + 2), f((b) + 3)
#define EACH_16(f, b) EACH_4(f, b), EACH_4(f, (b) + 4), EACH_4(f, (b) + 8), EACH_4(f, (b) + 12)
#define EACH_64(f, b)                                                                              \
    EACH_16(f, b), EACH_16(f, (b) + 16), EACH_16(f, (b) + 32), EACH_16(f, (b) + 48)
#define EACH_256(f) EACH_64(f, 0), EACH_64(f, 64), EACH_64(f, 128), EACH_64(f, 192)
static const uint64_t places[256] = {EACH_256(PLACES)};
static const uint8_t lengths[256] = {EACH_256(LENGTH)};

/* Bit i: byte i of 64 has a bit of `mask`. *all: bits that any byte has. */
INLINE uint64_t which(const uint8_t *bytes, uint8x16_t mask, uint8x16_t *all)
{
    uint8x16_t fired[4];
    UNROLL for (unsigned i = 0; i < 4; i++) {
        uint8x16_t some = vld1q_u8(bytes + 16 * i);
        fired[i] = vtstq_u8(some, mask);
        *all = vorrq_u8(*all, some);
    }
    return vgetq_lane_u64(vreinterpretq_u64_u8(esv_neon_collect(fired, esv_neon_bits())), 0);
}

/* Append the numbers of the set bits, from `first` on. Up to 7 entries of rubbish follow. */
INLINE uint16_t *list_bits(uint64_t bits, uint32_t groups, uint16x8_t first, uint16_t *to)
{
    UNROLL for (uint32_t i = 0; i < groups; i++) {
        uint64_t byte = bits >> 8 * i & 255;
        vst1q_u16(to, vaddw_u8(first, vcreate_u8(places[byte])));
        to = (uint16_t *)(void *)((uint8_t *)to + lengths[byte]);
        /* Or the compiler keeps the sum of all lengths besides. */
        __asm__("" : "+r"(to));
        first = vaddq_u16(first, vdupq_n_u16(8));
    }
    return to;
}

/* The last bytes, fewer than 64: not read beyond, and list_bits would write too far. */
INLINE uint16_t *list_rest(const uint8_t *bytes, uint32_t at, uint32_t count, uint8x16_t wanted,
                           uint8x16_t *all, uint16_t *to)
{
    uint8_t last[64] = {0};
    memcpy(last, bytes + at, count - at);
    for (uint64_t bits = which(last, wanted, all); bits; bits >>= 8, at += 8) {
        to = list_bits(bits & 255, 1, vdupq_n_u16((uint16_t)at), to);
    }
    return to;
}

/* to = the numbers of the bytes that have a bit of `mask`; returns the end. */
static uint16_t *list_nonzero(const uint8_t *bytes, uint32_t count, uint32_t mask, uint16_t *to,
                              uint32_t *largest)
{
    uint8x16_t wanted = vdupq_n_u8((uint8_t)mask), all = vdupq_n_u8(0);
    uint32_t at = 0;
    for (; at + 64 <= count; at += 64) {
        uint64_t bits = which(bytes + at, wanted, &all);
        if (bits) {
            to = list_bits(bits, 8, vdupq_n_u16((uint16_t)at), to);
        }
    }
    if (at < count) {
        to = list_rest(bytes, at, count, wanted, &all, to);
    }
    *largest = vmaxvq_u8(all);
    return to;
}

/* Beyond these lengths a bucket is cheaper. */
const esv_split esv_neon_splits[ESV_SPLITS] = {
    {3, {1, 2}, 3},  {5, {1, 4}, 1},  {6, {2, 4}, 3},   {7, {5, 2}, 3},  {10, {2, 8}, 1},
    {12, {4, 8}, 3}, {9, {1, 8}, 3},  {14, {10, 4}, 3}, {11, {10, 1}, 3}, {13, {5, 8}, 3},
    {15, {5, 10}, 1},
};

/* end: of each list in its own place. */
static void split_lists(uint32_t mask, uint16_t *const start[ESV_LISTS], uint16_t *end[ESV_LISTS])
{
    for (uint32_t i = esv_splits_within(mask); i > 0; i--) {
        const esv_split *s = &esv_neon_splits[i - 1];
        uint16_t *from = start[s->p];
        if (end[s->p] - from > s->longest) {
            continue;
        }
        for (; from < end[s->p]; from++) {
            *end[s->to[0]]++ = *from;
            *end[s->to[1]]++ = *from;
        }
        end[s->p] = start[s->p];
    }
}

/* Copy the lists behind each other; writes up to 8 entries beyond. */
INLINE void join_lists(uint16_t *const start[ESV_LISTS], uint16_t *const end[ESV_LISTS],
                       uint32_t mask, esv_lists *lists)
{
    uint16_t *row = lists->row, *to = row;
    for (uint32_t p = 1; p <= mask; p++) {
        const uint16_t *from = start[p], *last = end[p];
        ptrdiff_t n = last - from;
        lists->first[p] = (uint16_t)(to - row);
        lists->count[p] = (uint16_t)n;
        uint16_t *at = to;
        do { /* at least once: a branch on an empty list costs more */
            vst1q_u16(at, vld1q_u16(from));
            at += 8, from += 8;
        } while (from < last);
        to += n;
    }
}

INLINE void deal_one(const uint8_t *bytes, uint32_t shift, uint32_t mask, uint32_t row,
                     uint16_t *end[ESV_LISTS])
{
    uint32_t p = (uint32_t)bytes[row] >> shift & mask;
    uint16_t *to = end[p];
    *to++ = (uint16_t)row;
    end[p] = to;
}

/* Append each row to the list of its byte. */
INLINE void deal_rows(const uint8_t *bytes, uint32_t shift, uint32_t mask, const uint16_t *row,
                      const uint16_t *last, uint16_t *end[ESV_LISTS])
{
    for (; last - row >= 8; row += 8) {
        UNROLL for (unsigned i = 0; i < 8; i++) {
            deal_one(bytes, shift, mask, row[i], end);
        }
    }
    for (; row < last; row++) {
        deal_one(bytes, shift, mask, *row, end);
    }
}

/* The same; no byte is above `largest`, which often spares the mask, and the shift. */
INLINE void deal(const uint8_t *bytes, uint32_t largest, uint32_t nibble, uint32_t mask,
                 const uint16_t *row, const uint16_t *last, uint16_t *end[ESV_LISTS])
{
    if (largest >> 4 * nibble > mask) {
        deal_rows(bytes, 4 * nibble, mask, row, last, end);
    } else if (nibble) {
        deal_rows(bytes, 4, 255, row, last, end);
    } else {
        deal_rows(bytes, 0, 255, row, last, end);
    }
}

/* Room in each list for `count` inputs, and where there is more, so that they do not all start in
 * the same few lines of the cache. */
INLINE void place_lists(uint32_t count, uint16_t *scratch, uint16_t *start[ESV_LISTS],
                        uint16_t *end[ESV_LISTS])
{
    uint32_t room = count + (count >= 64 ? 32 : 0);
    start[0] = end[0] = scratch;
    for (uint32_t p = 1; p < ESV_LISTS; p++, scratch += room) {
        start[p] = end[p] = scratch;
    }
}

/* With fewer rows than this, row numbers and the ends of lists are within uint16_t for sure. */
#define ROWS_TO_DISSOLVE 65000

void esv_neon_sort(const uint8_t *bytes, uint32_t count, uint32_t nibble, uint32_t mask,
                   int dissolve, esv_lists *lists, void *scratch)
{
    uint16_t *start[ESV_LISTS], *end[ESV_LISTS];
    uint32_t largest;
    uint16_t *last = list_nonzero(bytes, count, mask << 4 * nibble, lists->row, &largest);
    memset(lists->first, 0, sizeof lists->first);
    memset(lists->count, 0, sizeof lists->count);
    if (mask == 1) {
        lists->count[1] = (uint16_t)(last - lists->row);
        return;
    }
    place_lists(count, scratch, start, end);
    deal(bytes, largest, nibble, mask, lists->row, last, end);
    if (dissolve && count < ROWS_TO_DISSOLVE) {
        split_lists(mask, start, end);
    }
    join_lists(start, end, mask, lists);
}

#else

typedef int esv_no_neon_sort; /* a file must not be empty */

#endif
