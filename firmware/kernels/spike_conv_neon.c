/* The spiking convolution on AArch64: 128 channels at a time, sums of int16 in 16 registers.
 *
 * A row costs two loads and 16 widening adds; weights of at most 7 bits are added in pairs as bytes
 * before they are widened, of at most 6 bits in fours. What several steps share is added once:
 * the rows of all steps to the bias, those of steps 0 and 2 and of 1 and 3 (a neuron under constant
 * input fires at every other step) on top of that, and each step starts from there. The other
 * shared lists have a bucket, which is added to whatever it belongs to.
 */
#if defined(__aarch64__) && defined(__ARM_NEON)

#include <arm_neon.h>
#include <stddef.h>
#include <string.h>

#include "spike_conv.h"

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")
#define WIDTH 128
#define VECTORS (WIDTH / 8)
/* Rows that can be added in int16 whatever the weights are: 256 * -128 = -32768. */
#define SAFE_ROWS 256

/* ---- Rows ---- */

/* In assembly: compilers copy what `ld1` of four registers gives before they use it. Rows are
 * loaded to v0 to v7, the sums are in whatever registers the compiler keeps them in. The blocks
 * name no memory that they read: weights do not change while they run, see `settled`. */
#define WIDEN(v, low, high)                                                                        \
    "saddw %" #low ".8h, %" #low ".8h, v" #v ".8b\n\t"                                             \
    "saddw2 %" #high ".8h, %" #high ".8h, v" #v ".16b\n\t"
#define START(v, low, high)                                                                        \
    "sxtl %" #low ".8h, v" #v ".8b\n\t"                                                            \
    "sxtl2 %" #high ".8h, v" #v ".16b\n\t"
#define BYTES(v, w) "add v" #v ".16b, v" #v ".16b, v" #w ".16b\n\t"

/* By the number of 16-column registers: the instructions for all of them, from registers 0 or 4. */
#define LOAD_0_1(p) "ld1 {v0.16b}, [%[" #p "]], #16\n\t"
#define LOAD_0_2(p) "ld1 {v0.16b-v1.16b}, [%[" #p "]], #32\n\t"
#define LOAD_0_4(p) "ld1 {v0.16b-v3.16b}, [%[" #p "]], #64\n\t"
#define LOAD_4_1(p) "ld1 {v4.16b}, [%[" #p "]], #16\n\t"
#define LOAD_4_2(p) "ld1 {v4.16b-v5.16b}, [%[" #p "]], #32\n\t"
#define LOAD_4_4(p) "ld1 {v4.16b-v7.16b}, [%[" #p "]], #64\n\t"
#define WIDEN_0_1 WIDEN(0, 0, 1)
#define WIDEN_0_2 WIDEN_0_1 WIDEN(1, 2, 3)
#define WIDEN_0_4 WIDEN_0_2 WIDEN(2, 4, 5) WIDEN(3, 6, 7)
#define START_0_1 START(0, 0, 1)
#define START_0_2 START_0_1 START(1, 2, 3)
#define START_0_4 START_0_2 START(2, 4, 5) START(3, 6, 7)
#define WIDEN_4_1 WIDEN(4, 0, 1)
#define WIDEN_4_2 WIDEN_4_1 WIDEN(5, 2, 3)
#define WIDEN_4_4 WIDEN_4_2 WIDEN(6, 4, 5) WIDEN(7, 6, 7)
#define BYTES_1 BYTES(0, 4)
#define BYTES_2 BYTES_1 BYTES(1, 5)
#define BYTES_4 BYTES_2 BYTES(2, 6) BYTES(3, 7)
#define SUMS_1(how) how(s[0]), how(s[1])
#define SUMS_2(how) SUMS_1(how), how(s[2]), how(s[3])
#define SUMS_4(how) SUMS_2(how), how(s[4]), how(s[5]), how(s[6]), how(s[7])
#define READS(p, n) "m"(*(const int16_t(*)[n])(p))
#define TAKEN "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7"

/* Set sums s to 16 * n columns of one row, or add one, two or four rows, and advance the rows past
 * them. */
#define BLOCK(n)                                                                                   \
    INLINE void first_row_##n(int16x8_t *s, const int8_t **p)                                      \
    {                                                                                              \
        __asm__(LOAD_0_##n(p) START_0_##n : SUMS_##n("=w"), [p] "+r"(p[0]) : : TAKEN);             \
    }                                                                                              \
    INLINE void one_row_##n(int16x8_t *s, const int8_t **p)                                        \
    {                                                                                              \
        __asm__(LOAD_0_##n(p) WIDEN_0_##n : SUMS_##n("+w"), [p] "+r"(p[0]) : : TAKEN);             \
    }                                                                                              \
    INLINE void two_rows_##n(int16x8_t *s, const int8_t **p)                                       \
    {                                                                                              \
        __asm__(LOAD_0_##n(p) LOAD_4_##n(q) WIDEN_0_##n WIDEN_4_##n                                \
                : SUMS_##n("+w"), [p] "+r"(p[0]), [q] "+r"(p[1]) : : TAKEN);                       \
    }                                                                                              \
    INLINE void two_as_bytes_##n(int16x8_t *s, const int8_t **p)                                   \
    {                                                                                              \
        __asm__(LOAD_0_##n(p) LOAD_4_##n(q) BYTES_##n WIDEN_0_##n                                  \
                : SUMS_##n("+w"), [p] "+r"(p[0]), [q] "+r"(p[1]) : : TAKEN);                       \
    }                                                                                              \
    INLINE void four_as_bytes_##n(int16x8_t *s, const int8_t **p)                                  \
    {                                                                                              \
        __asm__(LOAD_0_##n(p) LOAD_4_##n(q) BYTES_##n LOAD_4_##n(x) BYTES_##n LOAD_4_##n(y)        \
                BYTES_##n WIDEN_0_##n                                                              \
                : SUMS_##n("+w"), [p] "+r"(p[0]), [q] "+r"(p[1]), [x] "+r"(p[2]),                  \
                  [y] "+r"(p[3]) : : TAKEN);                                                       \
    }
BLOCK(1)
BLOCK(2)
BLOCK(4)

/* The functions of a block for all 16 * n columns. */
#define WHOLE(name)                                                                                \
    INLINE void name(int16x8_t *sum, unsigned n, const int8_t **p)                                 \
    {                                                                                              \
        UNROLL for (unsigned i = 0; i < n / 4; i++) {                                              \
            name##_4(sum + 8 * i, p);                                                              \
        }                                                                                          \
        if (n & 2) {                                                                               \
            name##_2(sum + 2 * (n & ~3u), p);                                                      \
        }                                                                                          \
        if (n & 1) {                                                                               \
            name##_1(sum + 2 * (n & ~1u), p);                                                      \
        }                                                                                          \
    }
WHOLE(first_row)
WHOLE(one_row)
WHOLE(two_rows)
WHOLE(two_as_bytes)
WHOLE(four_as_bytes)

/* rows, but as if just computed from all that is in memory. */
INLINE const int8_t *settled(const int8_t *rows)
{
    __asm__ volatile("" : "+r"(rows) : : "memory");
    return rows;
}

/* sum += the listed rows, `group` of them at a time as bytes. */
INLINE void add_rows(int16x8_t *sum, unsigned n, unsigned group, const int8_t *rows,
                     uint32_t stride, const uint16_t *row, uint32_t count)
{
    for (; count >= 4; count -= 4, row += 4) {
        const int8_t *p[4] = {rows + (size_t)row[0] * stride, rows + (size_t)row[1] * stride,
                              rows + (size_t)row[2] * stride, rows + (size_t)row[3] * stride};
        if (group == 4) {
            four_as_bytes(sum, n, p);
        } else {
            (group == 2 ? two_as_bytes : two_rows)(sum, n, p);
            (group == 2 ? two_as_bytes : two_rows)(sum, n, p + 2);
        }
    }
    if (count & 2) {
        const int8_t *p[2] = {rows + (size_t)row[0] * stride, rows + (size_t)row[1] * stride};
        (group == 1 ? two_rows : two_as_bytes)(sum, n, p);
        row += 2;
    }
    if (count & 1) {
        const int8_t *p[1] = {rows + (size_t)row[0] * stride};
        one_row(sum, n, p);
    }
}

/* ---- Sums of a tile that several steps share ---- */

INLINE void load_sum(int16x8_t *sum, unsigned n, const int16_t *from)
{
    UNROLL for (unsigned i = 0; i < 2 * n; i++) {
        sum[i] = vld1q_s16(from + 8 * i);
    }
}

INLINE void store_sum(const int16x8_t *sum, unsigned n, int16_t *to)
{
    UNROLL for (unsigned i = 0; i < 2 * n; i++) {
        vst1q_s16(to + 8 * i, sum[i]);
    }
}

/* Compilers load registers in pairs, `ld1` takes four. */
INLINE void add_sum(int16x8_t *sum, unsigned n, const int16_t *from)
{
    if (n & 1) {
        sum[2 * n - 2] = vaddq_s16(sum[2 * n - 2], vld1q_s16(from + 16 * n - 16));
        sum[2 * n - 1] = vaddq_s16(sum[2 * n - 1], vld1q_s16(from + 16 * n - 8));
    }
    UNROLL for (unsigned i = 0; i < n / 2; i++) {
        int16x8_t *s = sum + 4 * i;
        __asm__("ld1 {v0.8h-v3.8h}, [%[from]], #64\n\t"
                "add %0.8h, %0.8h, v0.8h\n\tadd %1.8h, %1.8h, v1.8h\n\t"
                "add %2.8h, %2.8h, v2.8h\n\tadd %3.8h, %3.8h, v3.8h"
                : SUMS_2("+w"), [from] "+r"(from) : READS(from, 32) : TAKEN);
    }
}

/* out = the sum of `count` rows, at least one. */
INLINE void sum_list(unsigned n, unsigned group, const int8_t *rows, uint32_t stride,
                     const uint16_t *row, uint32_t count, int16_t *out)
{
    int16x8_t sum[VECTORS];
    const int8_t *p[1] = {rows + (size_t)row[0] * stride};
    first_row(sum, n, p);
    add_rows(sum, n, group, rows, stride, row + 1, count - 1);
    store_sum(sum, n, out);
}

typedef void sum_list_function(const int8_t *rows, uint32_t stride, const uint16_t *row,
                               uint32_t count, int16_t *out);

/* ---- The steps of one group ---- */

/* How the sum of a node is made: that of the node `start`, the buckets of lists (bit p: list p) and
 * the rows of a list. EVEN and ODD are what steps start from, STEP + t is step t of the group. ROOT
 * has the list of all steps, whichever that is. */
enum { BIAS, ROOT, EVEN, ODD, STEP, NODES = STEP + 4 };
typedef struct {
    uint16_t buckets;
    uint8_t start, list;
} node;
static const node nodes[NODES] = {
    {0, BIAS, 0},
    {0, BIAS, 0},
    {1 << 7 | 1 << 13, ROOT, 5},
    {1 << 11 | 1 << 14, ROOT, 10},
    {1 << 3 | 1 << 9 | 1 << 11, EVEN, 1},
    {1 << 3 | 1 << 6 | 1 << 7, ODD, 2},
    {1 << 6 | 1 << 12 | 1 << 14, EVEN, 4},
    {1 << 12 | 1 << 9 | 1 << 13, ODD, 8},
};
/* The lists that have a bucket, where they are not ROOT's. */
#define SHARED (1 << 3 | 1 << 6 | 1 << 7 | 1 << 9 | 1 << 11 | 1 << 12 | 1 << 13 | 1 << 14)

/* Sums that wait in memory. */
typedef struct {
    int16_t membrane[WIDTH], node[STEP][WIDTH], bucket[ESV_LISTS][WIDTH];
    const int16_t *start[STEP]; /* of each node its sum, which may be another's */
    const int8_t *rows;
    uint32_t stride;
    sum_list_function *sum_list;
    const esv_lists *lists;
    uint32_t filled; /* bit p: bucket p is not 0 */
} workspace;

/* Bit p: list p is not empty. */
INLINE uint32_t filled_lists(const esv_lists *lists)
{
    static const uint8_t bit[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    uint16x8_t low = vld1q_u16(lists->count), high = vld1q_u16(lists->count + 8);
    uint8x16_t full = vcombine_u8(vmovn_u16(vtstq_u16(low, low)), vmovn_u16(vtstq_u16(high, high)));
    full = vandq_u8(full, vld1q_u8(bit));
    uint8x8_t sum = vpadd_u8(vget_low_u8(full), vget_high_u8(full));
    sum = vpadd_u8(sum, sum);
    return vget_lane_u16(vreinterpret_u16_u8(vpadd_u8(sum, sum)), 0);
}

/* all: the list of all steps. */
INLINE void fill_buckets(uint32_t all, workspace *w)
{
    const esv_lists *lists = w->lists;
    w->filled = filled_lists(lists) & SHARED & ((1u << all) - 1);
    for (uint32_t left = w->filled; left; left &= left - 1) {
        uint32_t p = (uint32_t)__builtin_ctz(left);
        w->sum_list(w->rows, w->stride, lists->row + lists->first[p], lists->count[p],
                    w->bucket[p]);
    }
}

INLINE void sum_node(int16x8_t *sum, unsigned n, unsigned group, uint32_t list, uint32_t buckets,
                     const int16_t *start, const workspace *w)
{
    load_sum(sum, n, start);
    for (; buckets; buckets &= buckets - 1) {
        add_sum(sum, n, w->bucket[__builtin_ctz(buckets)]);
    }
    add_rows(sum, n, group, w->rows, w->stride, w->lists->row + w->lists->first[list],
             w->lists->count[list]);
}

/* ROOT, EVEN and ODD: what the steps start from. */
INLINE void sum_starts(unsigned n, unsigned group, uint32_t all, workspace *w)
{
    for (uint32_t i = ROOT; i < STEP; i++) {
        uint32_t list = i == ROOT ? all : nodes[i].list;
        uint32_t buckets = nodes[i].buckets & w->filled;
        w->start[i] = w->start[nodes[i].start];
        if (buckets || w->lists->count[list]) {
            int16x8_t sum[VECTORS];
            sum_node(sum, n, group, list, buckets, w->start[i], w);
            store_sum(sum, n, w->node[i]);
            w->start[i] = w->node[i];
        }
    }
}

/* ---- Neurons ---- */

/* Where the neurons of a step are. */
typedef struct {
    const int16_t *threshold;
    int16_t *membrane;
    uint8_t *codes;
    int8x16_t shift; /* at the last step: T - 8 */
} neurons;

/* v4 to v7 = (membranes + sums) >> 1, v0 to v3 = whether they fire. */
#define DECAY                                                                                      \
    "shadd v4.8h, v4.8h, %[a].8h\n\tshadd v5.8h, v5.8h, %[b].8h\n\t"                               \
    "shadd v6.8h, v6.8h, %[c].8h\n\tshadd v7.8h, v7.8h, %[d].8h\n\t"
#define HALVE                                                                                      \
    "sshr v4.8h, %[a].8h, #1\n\tsshr v5.8h, %[b].8h, #1\n\t"                                       \
    "sshr v6.8h, %[c].8h, #1\n\tsshr v7.8h, %[d].8h, #1\n\t"
#define COMPARE                                                                                    \
    "ld1 {v0.8h-v3.8h}, [%[threshold]], #64\n\t"                                                   \
    "cmge v0.8h, v4.8h, v0.8h\n\tcmge v1.8h, v5.8h, v1.8h\n\t"                                     \
    "cmge v2.8h, v6.8h, v2.8h\n\tcmge v3.8h, v7.8h, v3.8h\n\t"
#define RESET                                                                                      \
    "bic v4.16b, v4.16b, v0.16b\n\tbic v5.16b, v5.16b, v1.16b\n\t"                                 \
    "bic v6.16b, v6.16b, v2.16b\n\tbic v7.16b, v7.16b, v3.16b\n\t"                                 \
    "st1 {v4.8h-v7.8h}, [%[membrane]], #64\n\t"
#define NARROW "uzp1 v0.16b, v0.16b, v1.16b\n\tuzp1 v1.16b, v2.16b, v3.16b\n\t"
#define LOAD_MEMBRANE "ld1 {v4.8h-v7.8h}, [%[membrane]]\n\t"
#define JOIN_CODE                                                                                  \
    "ld1 {v2.16b-v3.16b}, [%[codes]]\n\tsri v0.16b, v2.16b, #1\n\tsri v1.16b, v3.16b, #1\n\t"
#define SHIFT_CODE                                                                                 \
    "ushl v0.16b, v0.16b, %[shift].16b\n\tushl v1.16b, v1.16b, %[shift].16b\n\t"
#define STORE_CODE "st1 {v0.16b-v1.16b}, [%[codes]], #32"
#define FIRE_32(instructions)                                                                      \
    __asm__ volatile(instructions                                                                  \
            : [threshold] "+r"(at->threshold), [membrane] "+r"(at->membrane),                      \
              [codes] "+r"(at->codes)                                                              \
            : [a] "w"(s[0]), [b] "w"(s[1]), [c] "w"(s[2]), [d] "w"(s[3]),                          \
              [shift] "w"(at->shift) : TAKEN, "memory")

/* The spike of the last step is bit 7 of a code on the way, that of the step before bit 6, and so
 * on; the last step moves them to their places. */
INLINE void fire_32(const int16x8_t *s, neurons *at, int first, int last)
{
    if (first && last) {
        FIRE_32(HALVE COMPARE NARROW SHIFT_CODE STORE_CODE);
    } else if (first) {
        FIRE_32(HALVE COMPARE RESET NARROW STORE_CODE);
    } else if (last) {
        FIRE_32(LOAD_MEMBRANE DECAY COMPARE NARROW JOIN_CODE SHIFT_CODE STORE_CODE);
        at->membrane += 32;
    } else {
        FIRE_32(LOAD_MEMBRANE DECAY COMPARE RESET NARROW JOIN_CODE STORE_CODE);
    }
}

INLINE void fire_16(const int16x8_t *s, neurons *at, int first, int last)
{
    int16x8_t zero = vdupq_n_s16(0);
    int16x8_t a = vhaddq_s16(first ? zero : vld1q_s16(at->membrane), s[0]);
    int16x8_t b = vhaddq_s16(first ? zero : vld1q_s16(at->membrane + 8), s[1]);
    uint16x8_t fired_a = vcgeq_s16(a, vld1q_s16(at->threshold));
    uint16x8_t fired_b = vcgeq_s16(b, vld1q_s16(at->threshold + 8));
    vst1q_s16(at->membrane, vbicq_s16(a, vreinterpretq_s16_u16(fired_a)));
    vst1q_s16(at->membrane + 8, vbicq_s16(b, vreinterpretq_s16_u16(fired_b)));
    uint8x16_t code = vuzp1q_u8(vreinterpretq_u8_u16(fired_a), vreinterpretq_u8_u16(fired_b));
    if (!first) {
        code = vsriq_n_u8(code, vld1q_u8(at->codes), 1);
    }
    vst1q_u8(at->codes, last ? vshlq_u8(code, at->shift) : code);
}

/* One step of 16 * n neurons. */
INLINE void fire_step(const int16x8_t *sum, unsigned n, neurons at, int first, int last)
{
    UNROLL for (unsigned i = 0; i < n / 2; i++) {
        fire_32(sum + 4 * i, &at, first, last);
    }
    if (n & 1) {
        fire_16(sum + 2 * n - 2, &at, first, last);
    }
}

INLINE void fire_any(const int16x8_t *sum, unsigned n, const esv_tile *tile, uint32_t t,
                     int16_t *membrane, uint8_t *codes)
{
    int8_t shift = (int8_t)(tile->time_steps - 8);
    neurons at = {tile->threshold16, membrane, codes, vdupq_n_s8(shift)};
    if (t + 1u < tile->time_steps) {
        if (t) {
            fire_step(sum, n, at, 0, 0);
        } else {
            fire_step(sum, n, at, 1, 0);
        }
    } else if (t) {
        fire_step(sum, n, at, 0, 1);
    } else {
        fire_step(sum, n, at, 1, 1);
    }
}

INLINE void put_currents(const int16x8_t *sum, unsigned n, int32_t *currents)
{
    UNROLL for (unsigned i = 0; i < 2 * n; i++) {
        vst1q_s32(currents + 8 * i, vmovl_s16(vget_low_s16(sum[i])));
        vst1q_s32(currents + 8 * i + 4, vmovl_high_s16(sum[i]));
    }
}

/* The steps of w->lists, which are steps t0 onwards: to codes, or to currents (T, width). */
INLINE void run_group(unsigned n, unsigned group, const esv_tile *tile, uint32_t t0, workspace *w,
                      uint8_t *codes, int32_t *currents)
{
    uint32_t left = tile->time_steps - t0, steps = left < 4 ? left : 4, all = (1u << steps) - 1;
    fill_buckets(all, w);
    sum_starts(n, group, steps > 1 ? all : 0, w);
    for (uint32_t i = 0; i < steps; i++) {
        const node *at = &nodes[STEP + i];
        int16x8_t sum[VECTORS];
        sum_node(sum, n, group, at->list, at->buckets & w->filled, w->start[at->start], w);
        if (codes) {
            fire_any(sum, n, tile, t0 + i, w->membrane, codes);
        } else {
            put_currents(sum, n, currents + (t0 + i) * tile->width);
        }
    }
}

/* All steps of a tile of 16 * n channels: codes, or where that is NULL currents. */
INLINE void run_tile(unsigned n, unsigned group, const esv_tile *tile, const esv_lists *lists,
                     sum_list_function *sum_one, uint8_t *codes, int32_t *currents)
{
    workspace w;
    w.rows = settled(tile->rows);
    w.stride = tile->row_bytes;
    w.sum_list = sum_one;
    w.start[BIAS] = tile->bias16;
    for (uint32_t t = 0; t < tile->time_steps; t += 4) {
        w.lists = &lists[t >> 2];
        run_group(n, group, tile, t, &w, codes, currents);
    }
}

#define KERNELS(n, group)                                                                          \
    static void sum_list_##n##_##group(const int8_t *rows, uint32_t stride, const uint16_t *row,   \
                                       uint32_t count, int16_t *out)                               \
    {                                                                                              \
        sum_list(n, group, settled(rows), stride, row, count, out);                                \
    }                                                                                              \
    static void run_##n##_##group(const esv_tile *tile, const esv_lists *lists, uint8_t *codes,    \
                                  int32_t *currents)                                               \
    {                                                                                              \
        run_tile(n, group, tile, lists, sum_list_##n##_##group, codes, currents);                  \
    }
#define WIDTHS(group)                                                                              \
    KERNELS(1, group) KERNELS(2, group) KERNELS(3, group)                                          \
    KERNELS(4, group) KERNELS(6, group) KERNELS(8, group)
WIDTHS(1)
WIDTHS(2)
WIDTHS(4)

/* By the number of 16-column registers less one, and by how many rows are added as bytes. A width
 * without kernels of its own is taken in two parts. */
typedef struct {
    sum_list_function *sum_list;
    void (*run)(const esv_tile *tile, const esv_lists *lists, uint8_t *codes, int32_t *currents);
} kernels;
#define ENTRY(n, group) {sum_list_##n##_##group, run_##n##_##group}
#define ENTRIES(group)                                                                             \
    {                                                                                              \
        ENTRY(1, group), ENTRY(2, group), ENTRY(3, group), ENTRY(4, group), {NULL, NULL},          \
            ENTRY(6, group), {NULL, NULL}, ENTRY(8, group)                                         \
    }
static const kernels of_width[3][8] = {ENTRIES(1), ENTRIES(2), ENTRIES(4)};

static const kernels *find(const esv_tile *tile)
{
    return &of_width[tile->bits <= 6 ? 2 : tile->bits <= 7][tile->width / 16 - 1];
}

/* The tile without its first `columns`. */
static esv_tile beyond(const esv_tile *tile, uint32_t columns)
{
    esv_tile rest = *tile;
    rest.rows = (const int8_t *)tile->rows + columns;
    rest.width = (uint16_t)(tile->width - columns);
    rest.bias += columns, rest.bias16 += columns;
    rest.threshold += columns, rest.threshold16 += columns;
    return rest;
}

static void fire(const esv_tile *tile, const esv_lists *lists, uint8_t *codes)
{
    const kernels *k = find(tile);
    if (k->run) {
        k->run(tile, lists, codes, NULL);
        return;
    }
    esv_tile part = *tile;
    part.width = 64;
    find(&part)->run(&part, lists, codes, NULL);
    part = beyond(tile, 64);
    find(&part)->run(&part, lists, codes + 64, NULL);
}

/* ---- Currents ---- */

/* currents (width) += times * sum. */
static void add_times(int32_t *currents, const int16_t *sum, uint32_t width, int16_t times)
{
    for (uint32_t i = 0; i < width; i += 8) {
        int16x8_t s = vld1q_s16(sum + i);
        vst1q_s32(currents + i, vmlal_n_s16(vld1q_s32(currents + i), vget_low_s16(s), times));
        vst1q_s32(currents + i + 4,
                  vmlal_high_n_s16(vld1q_s32(currents + i + 4), s, times));
    }
}

/* currents (steps, width) += the sum of list p, `times` times, at each step whose bit in `steps` is
 * set. */
static void add_list(const esv_tile *tile, const esv_lists *lists, uint32_t p, uint32_t steps,
                     int16_t times, int32_t *currents)
{
    const uint16_t *row = lists->row + lists->first[p];
    const int8_t *rows = tile->rows;
    sum_list_function *sum_one = find(tile)->sum_list;
    int16_t sum[WIDTH];
    for (uint32_t left = lists->count[p]; left;) {
        uint32_t count = left < SAFE_ROWS ? left : SAFE_ROWS;
        sum_one(rows, tile->row_bytes, row, count, sum);
        int32_t *to = currents;
        for (uint32_t s = steps; s; s >>= 1, to += tile->width) {
            if (s & 1) {
                add_times(to, sum, tile->width, times);
            }
        }
        row += count;
        left -= count;
    }
}

static void start_currents(const esv_tile *tile, uint32_t steps, int32_t *currents)
{
    for (uint32_t t = 0; t < steps; t++) {
        memcpy(currents + t * tile->width, tile->bias, 4u * tile->width);
    }
}

static void sum_spikes_wide(const esv_tile *tile, const esv_lists *lists, int32_t *currents)
{
    start_currents(tile, tile->time_steps, currents);
    for (uint32_t t = 0; t < tile->time_steps; t += 4, lists++) {
        uint32_t left = tile->time_steps - t, all = left < 4 ? (1u << left) - 1 : 15;
        for (uint32_t p = 1; p <= all; p++) {
            add_list(tile, lists, p, p, 1, currents + t * tile->width);
        }
    }
}

/* currents (width) from levels. Buckets are small enough for int32 either way; narrow sums are cut
 * at the end. */
static void sum_levels_part(const esv_tile *tile, const esv_lists *lists, uint32_t nibbles,
                            int wide, int32_t *currents)
{
    start_currents(tile, 1, currents);
    for (uint32_t g = 0; g < nibbles; g++) {
        for (uint32_t p = 1; p < ESV_LISTS; p++) {
            add_list(tile, &lists[g], p, 1, (int16_t)(p << 4 * g), currents);
        }
    }
    for (uint32_t i = 0; i < tile->width && !wide; i += 4) {
        vst1q_s32(currents + i, vmovl_s16(vmovn_s32(vld1q_s32(currents + i))));
    }
}

/* As `beyond`, for currents of several steps that a part of the tile cannot write in place. */
static void sum_spikes_in_parts(const esv_tile *tile, const esv_lists *lists, int wide,
                                int32_t *currents)
{
    int32_t some[8 * 64];
    esv_tile part = *tile;
    for (uint32_t at = 0; at < tile->width; at += part.width) {
        part = beyond(tile, at);
        part.width = part.width > 64 ? 64 : part.width;
        if (wide) {
            sum_spikes_wide(&part, lists, some);
        } else {
            find(&part)->run(&part, lists, NULL, some);
        }
        for (uint32_t t = 0; t < tile->time_steps; t++) {
            memcpy(currents + t * tile->width + at, some + t * part.width, 4u * part.width);
        }
    }
}

static void sum_spikes(const esv_tile *tile, const esv_lists *lists, int wide, int32_t *currents)
{
    if (!find(tile)->run) {
        sum_spikes_in_parts(tile, lists, wide, currents);
    } else if (wide) {
        sum_spikes_wide(tile, lists, currents);
    } else {
        find(tile)->run(tile, lists, NULL, currents);
    }
}

static void sum_levels(const esv_tile *tile, const esv_lists *lists, uint32_t nibbles, int wide,
                       int32_t *currents)
{
    esv_tile part = *tile;
    if (!find(tile)->run) {
        part.width = 64;
        sum_levels_part(&part, lists, nibbles, wide, currents);
        currents += part.width;
        part = beyond(tile, part.width);
    }
    sum_levels_part(&part, lists, nibbles, wide, currents);
}

/* ---- Lists ---- */

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

/* Bit i: byte i of four registers has a bit of `mask`. *all: bits that any byte has. */
INLINE uint64_t which(const uint8_t *bytes, uint8x16_t mask, uint8x16_t *all)
{
    static const uint8_t bit[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    uint8x16_t bits = vld1q_u8(bit);
    uint8x16_t a = vld1q_u8(bytes), b = vld1q_u8(bytes + 16);
    uint8x16_t c = vld1q_u8(bytes + 32), d = vld1q_u8(bytes + 48);
    *all = vorrq_u8(vorrq_u8(*all, vorrq_u8(a, b)), vorrq_u8(c, d));
    a = vandq_u8(vtstq_u8(a, mask), bits), b = vandq_u8(vtstq_u8(b, mask), bits);
    c = vandq_u8(vtstq_u8(c, mask), bits), d = vandq_u8(vtstq_u8(d, mask), bits);
    a = vpaddq_u8(vpaddq_u8(a, b), vpaddq_u8(c, d));
    return vgetq_lane_u64(vreinterpretq_u64_u8(vpaddq_u8(a, a)), 0);
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
        uint8_t last[64] = {0};
        memcpy(last, bytes + at, count - at);
        for (uint64_t bits = which(last, wanted, &all); bits; bits >>= 8, at += 8) {
            to = list_bits(bits & 255, 1, vdupq_n_u16((uint16_t)at), to);
        }
    }
    *largest = vmaxvq_u8(all);
    return to;
}

/* Where a list goes whose rows are added apart for two others, and up to which length. Beyond, a
 * bucket is cheaper. */
typedef struct {
    uint8_t p, to[2], longest;
} split;
static const split splits[] = {
    {15, {5, 10}, 1}, {7, {5, 2}, 3},  {13, {5, 8}, 3}, {11, {10, 1}, 3}, {14, {10, 4}, 3},
    {3, {1, 2}, 3},   {6, {2, 4}, 3},  {9, {1, 8}, 3},  {12, {4, 8}, 3},  {5, {1, 4}, 1},
    {10, {2, 8}, 1},
};

/* end: of each list in its own place. */
static void split_lists(uint16_t *const start[ESV_LISTS], uint16_t *end[ESV_LISTS])
{
    for (unsigned i = 0; i < sizeof splits / sizeof *splits; i++) {
        const split *s = &splits[i];
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
INLINE void deal(const uint8_t *bytes, uint32_t shift, uint32_t mask, const uint16_t *row,
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

static void sort(const uint8_t *bytes, uint32_t count, uint32_t nibble, uint32_t mask,
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
    if (largest >> 4 * nibble > mask) { /* other bits besides */
        deal(bytes, 4 * nibble, mask, lists->row, last, end);
    } else if (nibble) {
        deal(bytes, 4, 255, lists->row, last, end);
    } else {
        deal(bytes, 0, 255, lists->row, last, end);
    }
    if (dissolve && count < ROWS_TO_DISSOLVE) {
        split_lists(start, end);
    }
    join_lists(start, end, mask, lists);
}

/* ---- Weights ---- */

/* Which byte a weight's lowest four bits, next two and last one are in, from where these start, and
 * how far its bits are to be shifted, or which bit it is. */
typedef struct {
    uint8x16_t in_four, in_two, in_one, bit;
    int8x16_t shift_four, shift_two;
} places_of_bits;

INLINE places_of_bits places_in_row(uint32_t bits)
{
    static const uint8_t four[16] = {0, 1, 2, 3, 0, 1, 2, 3, 4, 5, 6, 7, 4, 5, 6, 7};
    static const uint8_t two[16] = {0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3};
    static const uint8_t one[16] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1};
    static const uint8_t bit[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    static const int8_t by_four[16] = {0, 0, 0, 0, -4, -4, -4, -4, 0, 0, 0, 0, -4, -4, -4, -4};
    static const int8_t by_two[16] = {0, 0, 0, 0, -2, -2, -2, -2, -4, -4, -4, -4, -6, -6, -6, -6};
    uint32_t at_two = bits & 4 ? 8 : 0, at_one = at_two + (bits & 2 ? 4 : 0);
    places_of_bits p = {
        vld1q_u8(four), vaddq_u8(vld1q_u8(two), vdupq_n_u8((uint8_t)at_two)),
        vaddq_u8(vld1q_u8(one), vdupq_n_u8((uint8_t)at_one)), vld1q_u8(bit),
        vld1q_s8(by_four), vld1q_s8(by_two),
    };
    return p;
}

/* A row of 16 weights of `bits` bits, which is at the start of `row`. What is above a weight's bits
 * on the way is rubbish; the bits of an odd number end in one that is the sign, negated. */
INLINE int8x16_t unpack(uint8x16_t row, uint32_t bits, const places_of_bits *p)
{
    uint8x16_t u = vdupq_n_u8(0), none = u;
    if (bits & 4) {
        u = vshlq_u8(vqtbl1q_u8(row, p->in_four), p->shift_four);
    }
    if (bits & 2) {
        uint8x16_t v = vshlq_u8(vqtbl1q_u8(row, p->in_two), p->shift_two);
        u = bits & 4 ? vsliq_n_u8(u, v, 4) : v;
    }
    if (bits & 1) {
        uint8x16_t sign = vceqq_u8(vandq_u8(vqtbl1q_u8(row, p->in_one), p->bit), none);
        u = bits == 7 ? vsliq_n_u8(u, sign, 6) : bits == 5 ? vsliq_n_u8(u, sign, 4)
                                                           : vsliq_n_u8(u, sign, 2);
        return vreinterpretq_s8_u8(u);
    }
    u = vandq_u8(u, vdupq_n_u8((uint8_t)((1u << bits) - 1)));
    return vreinterpretq_s8_u8(vsubq_u8(u, vdupq_n_u8((uint8_t)(1u << (bits - 1)))));
}

/* Store 16 weights and return where the next row's are. Compilers know no such store. */
INLINE int8_t *store_row(int8_t *out, int8x16_t weights, size_t row_bytes)
{
    __asm__ volatile("st1 {%1.16b}, [%0], %2"
                     : "+r"(out) : "w"(weights), "r"(row_bytes) : "memory");
    return out;
}

INLINE void expand_bits(const uint8_t *packed, uint32_t rows, uint32_t bits, int8_t *out,
                        uint32_t row_bytes)
{
    places_of_bits p = places_in_row(bits);
    uint32_t last = 16 / (2 * bits); /* rows that a load of 16 bytes would read beyond */
    uint32_t k = 0;
    for (; k + last + 4 <= rows; k += 4) {
        UNROLL for (uint32_t i = 0; i < 4; i++, packed += 2 * bits) {
            out = store_row(out, unpack(vld1q_u8(packed), bits, &p), row_bytes);
        }
    }
    for (; k < rows; k++, packed += 2 * bits, out += row_bytes) {
        uint8_t row[16] = {0};
        memcpy(row, packed, 2 * bits);
        vst1q_s8(out, unpack(vld1q_u8(row), bits, &p));
    }
}

static void expand_bytes(const uint8_t *packed, uint32_t rows, uint32_t lanes, int8_t *out,
                         uint32_t row_bytes)
{
    uint32_t k = 0;
    for (; lanes == ESV_LANES && k + 4 <= rows; k += 4, packed += 4 * ESV_LANES) {
        UNROLL for (uint32_t i = 0; i < 4; i++) {
            out = store_row(out, vld1q_s8((const int8_t *)packed + i * ESV_LANES), row_bytes);
        }
    }
    for (; k < rows; k++, packed += lanes, out += row_bytes) {
        memset(out, 0, ESV_LANES);
        memcpy(out, packed, lanes);
    }
}

static void expand(const uint8_t *packed, uint32_t rows, uint32_t bits, uint32_t lanes, void *out,
                   uint32_t row_bytes)
{
    switch (bits) {
    case 2:
        expand_bits(packed, rows, 2, out, row_bytes);
        break;
    case 3:
        expand_bits(packed, rows, 3, out, row_bytes);
        break;
    case 4:
        expand_bits(packed, rows, 4, out, row_bytes);
        break;
    case 5:
        expand_bits(packed, rows, 5, out, row_bytes);
        break;
    case 6:
        expand_bits(packed, rows, 6, out, row_bytes);
        break;
    case 7:
        expand_bits(packed, rows, 7, out, row_bytes);
        break;
    default:
        expand_bytes(packed, rows, lanes, out, row_bytes);
    }
}

const esv_spike_variant esv_spike_neon = {
    "neon", WIDTH, 1, 48, expand, sort, fire, sum_spikes, sum_levels,
};

#else

typedef int esv_no_neon; /* a file must not be empty */

#endif
