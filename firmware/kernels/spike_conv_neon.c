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

/* In assembly: compilers copy what `ld1` of four registers gives before they use it. Rows are loaded
 * to v0 to v7, the sums are in whatever registers the compiler keeps them in. The blocks name no
 * memory that they read: weights do not change while they run, see `settled`. */
#define WIDEN(v, low, high)                                                                        \
    "saddw %" #low ".8h, %" #low ".8h, v" #v ".8b\n\t"                                             \
    "saddw2 %" #high ".8h, %" #high ".8h, v" #v ".16b\n\t"
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
#define WIDEN_4_1 WIDEN(4, 0, 1)
#define WIDEN_4_2 WIDEN_4_1 WIDEN(5, 2, 3)
#define WIDEN_4_4 WIDEN_4_2 WIDEN(6, 4, 5) WIDEN(7, 6, 7)
#define BYTES_1 BYTES(0, 4)
#define BYTES_2 BYTES_1 BYTES(1, 5)
#define BYTES_4 BYTES_2 BYTES(2, 6) BYTES(3, 7)
#define SUMS_1 "+w"(s[0]), "+w"(s[1])
#define SUMS_2 SUMS_1, "+w"(s[2]), "+w"(s[3])
#define SUMS_4 SUMS_2, "+w"(s[4]), "+w"(s[5]), "+w"(s[6]), "+w"(s[7])
#define TAKEN "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7"

/* Add 16 * n columns of one, two or four rows to sums s, and advance the rows past them. */
#define BLOCK(n)                                                                                   \
    INLINE void one_row_##n(int16x8_t *s, const int8_t **p)                                      \
    {                                                                                              \
        __asm__(LOAD_0_##n(p) WIDEN_0_##n : SUMS_##n, [p] "+r"(p[0]) : : TAKEN);                   \
    }                                                                                              \
    INLINE void two_rows_##n(int16x8_t *s, const int8_t **p)                                     \
    {                                                                                              \
        __asm__(LOAD_0_##n(p) LOAD_4_##n(q) WIDEN_0_##n WIDEN_4_##n                                \
                : SUMS_##n, [p] "+r"(p[0]), [q] "+r"(p[1]) : : TAKEN);                             \
    }                                                                                              \
    INLINE void two_as_bytes_##n(int16x8_t *s, const int8_t **p)                                 \
    {                                                                                              \
        __asm__(LOAD_0_##n(p) LOAD_4_##n(q) BYTES_##n WIDEN_0_##n                                  \
                : SUMS_##n, [p] "+r"(p[0]), [q] "+r"(p[1]) : : TAKEN);                             \
    }                                                                                              \
    INLINE void four_as_bytes_##n(int16x8_t *s, const int8_t **p)                                \
    {                                                                                              \
        __asm__(LOAD_0_##n(p) LOAD_4_##n(q) BYTES_##n LOAD_4_##n(x) BYTES_##n LOAD_4_##n(y)        \
                BYTES_##n WIDEN_0_##n                                                              \
                : SUMS_##n, [p] "+r"(p[0]), [q] "+r"(p[1]), [x] "+r"(p[2]), [y] "+r"(p[3])         \
                : : TAKEN);                                                                        \
    }
BLOCK(1)
BLOCK(2)
BLOCK(4)

/* The functions of a block for all 16 * n columns. */
#define WHOLE(name)                                                                                \
    INLINE void name(int16x8_t *sum, unsigned n, const int8_t **p)                               \
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
INLINE void add_rows(int16x8_t *sum, unsigned n, unsigned group, const int8_t *rows, size_t stride,
                     const uint16_t *row, uint32_t count)
{
    for (; count >= 4; count -= 4, row += 4) {
        const int8_t *p[4] = {rows + row[0] * stride, rows + row[1] * stride,
                              rows + row[2] * stride, rows + row[3] * stride};
        if (group == 4) {
            four_as_bytes(sum, n, p);
        } else {
            (group == 2 ? two_as_bytes : two_rows)(sum, n, p);
            (group == 2 ? two_as_bytes : two_rows)(sum, n, p + 2);
        }
    }
    if (count & 2) {
        const int8_t *p[2] = {rows + row[0] * stride, rows + row[1] * stride};
        (group == 1 ? two_rows : two_as_bytes)(sum, n, p);
        row += 2;
    }
    if (count & 1) {
        const int8_t *p[1] = {rows + row[0] * stride};
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

INLINE void add_sum(int16x8_t *sum, unsigned n, const int16_t *from)
{
    UNROLL for (unsigned i = 0; i < 2 * n; i++) {
        sum[i] = vaddq_s16(sum[i], vld1q_s16(from + 8 * i));
    }
}

/* out = the sum of `count` rows, at least one. */
INLINE void sum_list(unsigned n, unsigned group, const int8_t *rows, size_t stride,
                     const uint16_t *row, uint32_t count, int16_t *out)
{
    int16x8_t sum[VECTORS];
    UNROLL for (unsigned i = 0; i < n; i++) {
        int8x16_t w = vld1q_s8(rows + row[0] * stride + 16 * i);
        sum[2 * i] = vmovl_s8(vget_low_s8(w));
        sum[2 * i + 1] = vmovl_high_s8(w);
    }
    add_rows(sum, n, group, rows, stride, row + 1, count - 1);
    store_sum(sum, n, out);
}

typedef void sum_list_function(const int8_t *rows, size_t stride, const uint16_t *row,
                               uint32_t count, int16_t *out);

/* ---- The steps of one group ---- */

/* How the sum of a node is made: that of the node `start` (0: the bias), the buckets of up to three
 * lists (0: none) and the rows of a list. Nodes 1 to 3 are what steps start from, 4 + t is step t
 * of the group. Node 1 has the list of all steps, whichever that is. */
enum { BIAS, ROOT, EVEN, ODD, STEP, NODES = STEP + 4 };
typedef struct {
    uint8_t start, list, bucket[3], is_step;
} node;
static const node nodes[NODES] = {
    {BIAS, 0, {0, 0, 0}, 0},   {BIAS, 0, {0, 0, 0}, 0},    {ROOT, 5, {7, 13, 0}, 0},
    {ROOT, 10, {11, 14, 0}, 0}, {EVEN, 1, {3, 9, 11}, 1},   {ODD, 2, {3, 6, 7}, 1},
    {EVEN, 4, {6, 12, 14}, 1}, {ODD, 8, {12, 9, 13}, 1},
};

/* Sums that wait in memory. */
typedef struct {
    int16_t membrane[WIDTH], node[STEP][WIDTH], bucket[ESV_LISTS][WIDTH];
    const int16_t *start[STEP];             /* of each node its sum, which may be another's */
    const int16_t *filled[ESV_LISTS];       /* of each list its bucket; NULL: empty */
} workspace;

/* Sum the lists that neither are a single step's nor a node's own. */
INLINE void fill_buckets(const esv_tile *tile, const esv_lists *lists, uint32_t all,
                         sum_list_function *sum_one, workspace *w)
{
    static const uint8_t shared[8] = {3, 6, 7, 9, 11, 12, 13, 14};
    w->filled[0] = NULL;
    for (unsigned i = 0; i < 8; i++) {
        uint32_t p = shared[i], count = p < all ? lists->count[p] : 0;
        w->filled[p] = NULL;
        if (count) {
            sum_one(tile->rows, tile->row_bytes, lists->row + lists->first[p], count,
                    w->bucket[p]);
            w->filled[p] = w->bucket[p];
        }
    }
}

/* Whether a node differs from where it starts. */
INLINE int has_own(const node *at, uint32_t count, const workspace *w)
{
    return count || w->filled[at->bucket[0]] || w->filled[at->bucket[1]];
}

INLINE void sum_node(int16x8_t *sum, unsigned n, unsigned group, const esv_tile *tile,
                     const int8_t *rows, const esv_lists *lists, const node *at, uint32_t list, const workspace *w)
{
    load_sum(sum, n, w->start[at->start]);
    for (unsigned i = 0; i < 3; i++) {
        const int16_t *bucket = w->filled[at->bucket[i]];
        if (bucket) {
            add_sum(sum, n, bucket);
        }
    }
    add_rows(sum, n, group, rows, tile->row_bytes, lists->row + lists->first[list],
             lists->count[list]);
}

/* One step of 16 * n neurons. The spike of the last step is bit 7 of a code on the way, that of the
 * step before bit 6, and so on: what lies below the first step's is rubbish. */
INLINE void fire_step(const int16x8_t *sum, unsigned n, const int16_t *threshold,
                      int16_t *membrane, uint8_t *codes, int first, int last)
{
    UNROLL for (unsigned i = 0; i < n; i++, threshold += 16, membrane += 16, codes += 16) {
        int16x8_t low = sum[2 * i], high = sum[2 * i + 1];
        if (first) {
            low = vshrq_n_s16(low, 1), high = vshrq_n_s16(high, 1);
        } else {
            low = vhaddq_s16(vld1q_s16(membrane), low);
            high = vhaddq_s16(vld1q_s16(membrane + 8), high);
        }
        uint16x8_t fired_low = vcgeq_s16(low, vld1q_s16(threshold));
        uint16x8_t fired_high = vcgeq_s16(high, vld1q_s16(threshold + 8));
        if (!last) {
            vst1q_s16(membrane, vbicq_s16(low, vreinterpretq_s16_u16(fired_low)));
            vst1q_s16(membrane + 8, vbicq_s16(high, vreinterpretq_s16_u16(fired_high)));
        }
        uint8x16_t code = vuzp1q_u8(vreinterpretq_u8_u16(fired_low),
                                    vreinterpretq_u8_u16(fired_high));
        vst1q_u8(codes, first ? code : vsriq_n_u8(code, vld1q_u8(codes), 1));
    }
}

INLINE void fire_any(const int16x8_t *sum, unsigned n, const esv_tile *tile, uint32_t t,
                     int16_t *membrane, uint8_t *codes)
{
    if (t == 0) {
        fire_step(sum, n, tile->threshold16, membrane, codes, 1, 0);
    } else if (t + 1u < tile->time_steps) {
        fire_step(sum, n, tile->threshold16, membrane, codes, 0, 0);
    } else {
        fire_step(sum, n, tile->threshold16, membrane, codes, 0, 1);
    }
}

INLINE void put_currents(const int16x8_t *sum, unsigned n, int32_t *currents)
{
    UNROLL for (unsigned i = 0; i < 2 * n; i++) {
        vst1q_s32(currents + 8 * i, vmovl_s16(vget_low_s16(sum[i])));
        vst1q_s32(currents + 8 * i + 4, vmovl_high_s16(sum[i]));
    }
}

/* The steps of lists, which are steps t0 onwards: to codes, or to currents (T, width). */
INLINE void run_group(unsigned n, unsigned group, const esv_tile *tile, const int8_t *rows,
                      const esv_lists *lists, uint32_t t0, sum_list_function *sum_one, workspace *w, uint8_t *codes,
                      int32_t *currents)
{
    uint32_t left = tile->time_steps - t0, steps = left < 4 ? left : 4, all = (1u << steps) - 1;
    fill_buckets(tile, lists, all, sum_one, w);
    w->start[BIAS] = tile->bias16;
    for (uint32_t i = ROOT; i < STEP + steps; i++) {
        const node *at = &nodes[i];
        uint32_t list = i == ROOT ? all : at->list;
        int16x8_t sum[VECTORS];
        if (!at->is_step) {
            w->start[i] = w->start[at->start];
            if ((i == ROOT ? steps == 1 : list >= all) || !has_own(at, lists->count[list], w)) {
                continue;
            }
        }
        sum_node(sum, n, group, tile, rows, lists, at, list, w);
        if (!at->is_step) {
            store_sum(sum, n, w->node[i]);
            w->start[i] = w->node[i];
        } else if (codes) {
            fire_any(sum, n, tile, t0 + i - STEP, w->membrane, codes);
        } else {
            put_currents(sum, n, currents + (t0 + i - STEP) * tile->width);
        }
    }
}

/* All steps of a tile of 16 * n channels: codes, or where that is NULL currents. */
INLINE void run_tile(unsigned n, unsigned group, const esv_tile *tile, const esv_lists *lists,
                     sum_list_function *sum_one, uint8_t *codes, int32_t *currents)
{
    workspace w;
    const int8_t *rows = settled(tile->rows);
    for (uint32_t t = 0; t < tile->time_steps; t += 4) {
        run_group(n, group, tile, rows, &lists[t >> 2], t, sum_one, &w, codes, currents);
    }
    if (!codes) {
        return;
    }
    int8x16_t shift = vdupq_n_s8((int8_t)(tile->time_steps - 8));
    UNROLL for (unsigned i = 0; i < n; i++) {
        vst1q_u8(codes + 16 * i, vshlq_u8(vld1q_u8(codes + 16 * i), shift));
    }
}

#define KERNELS(n, group)                                                                          \
    static void sum_list_##n##_##group(const int8_t *rows, size_t stride, const uint16_t *row,     \
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
    esv_tile part = *tile;
    if (!find(tile)->run) {
        part.width = tile->width == 80 ? 48 : 64;
        find(&part)->run(&part, lists, codes, NULL);
        codes += part.width;
        part = beyond(tile, part.width);
    }
    find(&part)->run(&part, lists, codes, NULL);
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
        part.width = part.width > 64 ? 64 : part.width > 48 && part.width < 64 ? 48 : part.width;
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

/* Of each byte: where its bits are, lowest first, one a byte; and how many. */
#define BIT(b, i) ((uint64_t)((b) >> (i) & 1))
#define PUT(b, i, rest) ((rest) * (1 + 255 * BIT(b, i)) + (i) * BIT(b, i))
#define PLACES(b)                                                                                  \
    PUT(b, 0, PUT(b, 1, PUT(b, 2, PUT(b, 3, PUT(b, 4, PUT(b, 5, PUT(b, 6, 7 * BIT(b, 7))))))))
#define COUNT(b)                                                                                   \
    (uint8_t)(BIT(b, 0) + BIT(b, 1) + BIT(b, 2) + BIT(b, 3) + BIT(b, 4) + BIT(b, 5) +              \
              BIT(b, 6) + BIT(b, 7))
#define EACH_4(f, b) f(b), f((b) + 1), f((b) + 2), f((b) + 3)
#define EACH_16(f, b) EACH_4(f, b), EACH_4(f, (b) + 4), EACH_4(f, (b) + 8), EACH_4(f, (b) + 12)
#define EACH_64(f, b)                                                                              \
    EACH_16(f, b), EACH_16(f, (b) + 16), EACH_16(f, (b) + 32), EACH_16(f, (b) + 48)
#define EACH_256(f) EACH_64(f, 0), EACH_64(f, 64), EACH_64(f, 128), EACH_64(f, 192)
static const uint64_t places[256] = {EACH_256(PLACES)};
static const uint8_t counts[256] = {EACH_256(COUNT)};

/* Bit i: byte i of four registers has a bit of `mask`. */
INLINE uint64_t which(const uint8_t *bytes, uint8x16_t mask)
{
    static const uint8_t bit[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    uint8x16_t bits = vld1q_u8(bit);
    uint8x16_t a = vandq_u8(vtstq_u8(vld1q_u8(bytes), mask), bits);
    uint8x16_t b = vandq_u8(vtstq_u8(vld1q_u8(bytes + 16), mask), bits);
    uint8x16_t c = vandq_u8(vtstq_u8(vld1q_u8(bytes + 32), mask), bits);
    uint8x16_t d = vandq_u8(vtstq_u8(vld1q_u8(bytes + 48), mask), bits);
    uint8x16_t all = vpaddq_u8(vpaddq_u8(a, b), vpaddq_u8(c, d));
    return vgetq_lane_u64(vreinterpretq_u64_u8(vpaddq_u8(all, all)), 0);
}

/* Append the numbers of the set bits, from `first` on. Up to 7 entries of rubbish follow. */
INLINE uint16_t *list_bits(uint64_t bits, uint32_t groups, uint16x8_t first, uint16_t *to)
{
    UNROLL for (uint32_t i = 0; i < groups; i++) {
        unsigned byte = (unsigned)(bits >> 8 * i) & 255;
        vst1q_u16(to, vaddw_u8(first, vcreate_u8(places[byte])));
        to += counts[byte];
        first = vaddq_u16(first, vdupq_n_u16(8));
    }
    return to;
}

/* to = the numbers of the bytes that have a bit of `mask`; returns the end. */
static uint16_t *list_nonzero(const uint8_t *bytes, uint32_t count, uint32_t mask, uint16_t *to)
{
    uint8x16_t wanted = vdupq_n_u8((uint8_t)mask);
    uint32_t at = 0;
    for (; at + 64 <= count; at += 64) {
        uint64_t bits = which(bytes + at, wanted);
        if (bits) {
            to = list_bits(bits, 8, vdupq_n_u16((uint16_t)at), to);
        }
    }
    if (at < count) {
        uint8_t last[64] = {0};
        memcpy(last, bytes + at, count - at);
        for (uint64_t bits = which(last, wanted); bits; bits >>= 8, at += 8) {
            to = list_bits(bits & 255, 1, vdupq_n_u16((uint16_t)at), to);
        }
    }
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

/* Copy the lists behind each other; writes up to 7 entries beyond. */
static void join_lists(uint16_t *const start[ESV_LISTS], uint16_t *const end[ESV_LISTS],
                       uint32_t mask, esv_lists *lists)
{
    uint32_t at = 0;
    for (uint32_t p = 1; p <= mask; p++) {
        uint32_t n = (uint32_t)(end[p] - start[p]);
        lists->first[p] = (uint16_t)at;
        lists->count[p] = (uint16_t)n;
        for (uint32_t i = 0; i < n; i += 8) {
            vst1q_u16(lists->row + at + i, vld1q_u16(start[p] + i));
        }
        at += n;
    }
}

/* Append each row to the list of its byte. `clean`: no byte has other bits than the nibble. */
INLINE void deal(const uint8_t *bytes, uint32_t shift, uint32_t mask, int clean,
                 const uint16_t *row, const uint16_t *last, uint16_t *end[ESV_LISTS])
{
    for (; row < last; row++) {
        uint32_t p = clean ? bytes[*row] : (uint32_t)bytes[*row] >> shift & mask;
        *end[p]++ = *row;
    }
}

/* With fewer rows than this, row numbers and the ends of lists are within uint16_t for sure. */
#define ROWS_TO_DISSOLVE 65000

static void sort(const uint8_t *bytes, uint32_t count, uint32_t nibble, uint32_t mask,
                 int dissolve, esv_lists *lists, void *scratch)
{
    uint16_t *start[ESV_LISTS], *end[ESV_LISTS];
    uint16_t *last = list_nonzero(bytes, count, mask << 4 * nibble, lists->row);
    memset(lists->first, 0, sizeof lists->first);
    memset(lists->count, 0, sizeof lists->count);
    if (mask == 1) {
        lists->count[1] = (uint16_t)(last - lists->row);
        return;
    }
    /* Room for all inputs in each list, and where there is more, that they do not all start in the
     * same few lines of the cache. */
    uint32_t room = count + (count >= 64 ? 32 : 0);
    for (uint32_t p = 0; p < ESV_LISTS; p++) {
        start[p] = end[p] = (uint16_t *)scratch + (p - (p > 0)) * room;
    }
    deal(bytes, 4 * nibble, mask, 0, lists->row, last, end);
    if (dissolve && count < ROWS_TO_DISSOLVE) {
        split_lists(start, end);
    }
    join_lists(start, end, mask, lists);
}

/* ---- Weights ---- */

/* 16 weights of b bits, plus 2^(b - 1). */
INLINE uint8x16_t unpack(const uint8_t *p, uint32_t bits)
{
    static const int8_t by_word[16] = {0, 0, 0, 0, -2, -2, -2, -2, -4, -4, -4, -4, -6, -6, -6, -6};
    static const uint8_t bit[8] = {1, 2, 4, 8, 16, 32, 64, 128};
    uint8x16_t u = vdupq_n_u8(0);
    if (bits & 4) {
        uint8x8_t two = vld1_u8(p), low = vand_u8(two, vdup_n_u8(15)), high = vshr_n_u8(two, 4);
        uint32x2x2_t words = vzip_u32(vreinterpret_u32_u8(low), vreinterpret_u32_u8(high));
        u = vreinterpretq_u8_u32(vcombine_u32(words.val[0], words.val[1]));
        p += 8;
    }
    if (bits & 2) {
        uint32_t four;
        memcpy(&four, p, 4);
        uint8x16_t v = vshlq_u8(vreinterpretq_u8_u32(vdupq_n_u32(four)), vld1q_s8(by_word));
        v = vandq_u8(v, vdupq_n_u8(3));
        u = bits & 4 ? vsliq_n_u8(u, v, 4) : v;
        p += 4;
    }
    if (bits & 1) {
        uint8x16_t v = vcombine_u8(vdup_n_u8(p[0]), vdup_n_u8(p[1]));
        v = vtstq_u8(v, vcombine_u8(vld1_u8(bit), vld1_u8(bit)));
        u = vorrq_u8(u, vandq_u8(v, vdupq_n_u8((uint8_t)(1u << (bits - 1)))));
    }
    return u;
}

INLINE void expand_bits(const uint8_t *packed, uint32_t rows, uint32_t bits, int8_t *out,
                        uint32_t row_bytes)
{
    uint8x16_t zero = vdupq_n_u8((uint8_t)(1u << (bits - 1)));
    for (uint32_t k = 0; k < rows; k++, packed += 2 * bits, out += row_bytes) {
        vst1q_s8(out, vreinterpretq_s8_u8(vsubq_u8(unpack(packed, bits), zero)));
    }
}

static void expand_bytes(const uint8_t *packed, uint32_t rows, uint32_t lanes, int8_t *out,
                         uint32_t row_bytes)
{
    if (lanes == ESV_LANES) {
        for (uint32_t k = 0; k < rows; k++, packed += ESV_LANES, out += row_bytes) {
            vst1q_s8(out, vreinterpretq_s8_u8(vld1q_u8(packed)));
        }
        return;
    }
    for (uint32_t k = 0; k < rows; k++, packed += lanes, out += row_bytes) {
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
