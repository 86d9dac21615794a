/* The spiking convolution on AArch64: 128 channels at a time, sums of int16 in 16 registers.
 *
 * What several steps share is added once: the rows of all steps to the bias, those of steps 0 and 2
 * and of 1 and 3 (a neuron under constant input fires at every other step) on top of that, and each
 * step starts from there. The other shared lists have a bucket, which is added to whatever it
 * belongs to.
 */
#if defined(__aarch64__) && defined(__ARM_NEON)

/* All 24 registers that rows leave hold sums and codes. Taken loop by loop, as GCC otherwise does,
 * codes are copied before and after each step of a neuron. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("ira-region=one")
#endif

#include "spike_fire_neon.h"
#include "spike_rows_neon.h"

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
    int16_t membrane[ESV_NEON_WIDTH];
    int16_t node[STEP][ESV_NEON_WIDTH], bucket[ESV_LISTS][ESV_NEON_WIDTH];
    const int16_t *start[STEP]; /* of each node its sum, which may be another's */
    const int8_t *rows;
    uint32_t stride;
    esv_neon_sum_list *sum_list;
    const esv_lists *lists;
    uint32_t filled; /* bit p: bucket p is not 0 */
    int32_t *membranes; /* (width) of neurons on sums in two parts */
} workspace;

/* What a step has apart from what it starts from, when its sum does not fit int16. */
static const int16_t nothing[ESV_NEON_WIDTH];

/* Bit p: list p is not empty. */
INLINE uint32_t filled_lists(const esv_lists *lists)
{
    uint16x8_t low = vld1q_u16(lists->count), high = vld1q_u16(lists->count + 8);
    uint8x16_t full = vcombine_u8(vmovn_u16(vtstq_u16(low, low)), vmovn_u16(vtstq_u16(high, high)));
    full = vandq_u8(full, esv_neon_bits());
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

/* The steps of w->lists, which are steps t0 onwards: to codes, or to currents, `stride` from
 * step to step. */
INLINE void run_group(unsigned n, unsigned group, int wide, const esv_tile *tile, uint32_t t0,
                      workspace *w, uint8_t *codes, int32_t *currents, uint32_t stride)
{
    uint32_t left = tile->time_steps - t0, steps = left < 4 ? left : 4, all = (1u << steps) - 1;
    uint8x16_t code[ESV_NEON_WIDTH / 16];
    fill_buckets(all, w);
    sum_starts(n, group, steps > 1 ? all : 0, w);
    load_codes(code, n, t0 && codes && !wide ? codes : NULL);
    for (uint32_t i = 0; i < steps; i++) {
        const node *at = &nodes[STEP + i];
        int16x8_t sum[VECTORS];
        sum_node(sum, n, group, at->list, at->buckets & w->filled,
                 wide ? nothing : w->start[at->start], w);
        if (wide) {
            store_sum(sum, n, w->node[BIAS]);
            esv_neon_fire_wide(tile, t0 + i, w->node[BIAS], w->start[at->start], w->membranes,
                               codes);
        } else if (codes) {
            fire_any(sum, n, tile, t0 + i, w->membrane, code);
        } else {
            put_currents(sum, n, currents + (t0 + i) * stride);
        }
    }
    if (codes && !wide) {
        store_codes(code, n, codes);
    }
}

/* See esv_neon_run: a tile of 16 * n channels. */
INLINE void run_tile(unsigned n, unsigned group, const esv_tile *tile, const esv_lists *lists,
                     esv_neon_sum_list *sum_one, uint8_t *codes, int32_t *currents,
                     uint32_t stride)
{
    workspace w;
    w.rows = settled(tile->rows);
    w.stride = tile->row_bytes;
    w.sum_list = sum_one;
    w.start[BIAS] = tile->bias16;
    for (uint32_t t = 0; t < tile->time_steps; t += 4) {
        w.lists = &lists[t >> 2];
        run_group(n, group, 0, tile, t, &w, codes, currents, stride);
    }
}

/* Codes from sums in two parts, each within int16. */
INLINE void run_wide(unsigned n, const esv_tile *tile, const esv_lists *lists,
                     esv_neon_sum_list *sum_one, uint8_t *codes)
{
    int32_t membranes[ESV_NEON_WIDTH];
    workspace w;
    w.rows = settled(tile->rows);
    w.stride = tile->row_bytes;
    w.sum_list = sum_one;
    w.start[BIAS] = tile->bias16;
    w.membranes = membranes;
    for (uint32_t t = 0; t < tile->time_steps; t += 4) {
        w.lists = &lists[t >> 2];
        run_group(n, 1, 1, tile, t, &w, codes, NULL, 0);
    }
}

/* Macros, because each width has functions of its own. */
#define KERNELS(n, group)                                                                          \
    static void sum_list_##n##_##group(const int8_t *rows, uint32_t stride, const uint16_t *row,   \
                                       uint32_t count, int16_t *out)                               \
    {                                                                                              \
        sum_list(n, group, settled(rows), stride, row, count, out);                                \
    }                                                                                              \
    static void run_##n##_##group(const esv_tile *tile, const esv_lists *lists, uint8_t *codes,    \
                                  int32_t *currents, uint32_t stride)                              \
    {                                                                                              \
        run_tile(n, group, tile, lists, sum_list_##n##_##group, codes, currents, stride);          \
    }
#define WIDTHS(group)                                                                              \
    KERNELS(1, group) KERNELS(2, group) KERNELS(3, group)                                          \
    KERNELS(4, group) KERNELS(6, group) KERNELS(8, group)
WIDTHS(1)
WIDTHS(2)
WIDTHS(4)

/* By the number of 16-column registers less one, and by how many rows are added as bytes. A width
 * without kernels of its own is taken in two parts. */
#define ENTRY(n, group) {sum_list_##n##_##group, run_##n##_##group}
#define ENTRIES(group)                                                                             \
    {                                                                                              \
        ENTRY(1, group), ENTRY(2, group), ENTRY(3, group), ENTRY(4, group), {NULL, NULL},          \
            ENTRY(6, group), {NULL, NULL}, ENTRY(8, group)                                         \
    }
static const esv_neon_kernels of_width[3][8] = {ENTRIES(1), ENTRIES(2), ENTRIES(4)};

const esv_neon_kernels *esv_neon_find(const esv_tile *tile)
{
    return &of_width[tile->bits <= 6 ? 2 : tile->bits <= 7][tile->width / 16 - 1];
}

esv_tile esv_neon_part(const esv_tile *tile, uint32_t column)
{
    esv_tile part = *tile;
    part.rows = (const int8_t *)tile->rows + column;
    part.width = (uint16_t)(tile->width - column);
    part.bias += column, part.bias16 += column;
    part.threshold += column, part.threshold16 += column;
    if (!esv_neon_find(&part)->run) {
        part.width = 64;
    }
    return part;
}

static __attribute__((noinline)) void fire_in_parts(const esv_tile *tile, const esv_lists *lists,
                                                    uint8_t *codes)
{
    esv_tile part;
    for (uint32_t at = 0; at < tile->width; at += part.width) {
        part = esv_neon_part(tile, at);
        esv_neon_find(&part)->run(&part, lists, codes + at, NULL, 0);
    }
}

/* Most often without a copy of the tile, nor the frame that it takes. */
static void fire(const esv_tile *tile, const esv_lists *lists, uint8_t *codes)
{
    esv_neon_run *run = esv_neon_find(tile)->run;
    if (run) {
        run(tile, lists, codes, NULL, 0);
    } else {
        fire_in_parts(tile, lists, codes);
    }
}

/* Whether the two parts of each step's sum fit int16: what it starts from and the rest. */
static int parts_fit(const esv_lists *lists, uint32_t steps, uint32_t most)
{
    uint32_t all = (1u << steps) - 1, rows[NODES] = {0};
    for (uint32_t i = ROOT; i < STEP + steps; i++) {
        uint32_t list = i == ROOT ? steps > 1 ? all : 0 : nodes[i].list;
        rows[i] = (list ? lists->count[list] : 0) + (i < STEP ? rows[nodes[i].start] : 0);
        for (uint32_t left = nodes[i].buckets & ((1u << all) - 1); left; left &= left - 1) {
            rows[i] += lists->count[__builtin_ctz(left)];
        }
        if (rows[i] > most) {
            return 0;
        }
    }
    return 1;
}

static void fire_wide_parts(const esv_tile *tile, const esv_lists *lists, uint8_t *codes)
{
    esv_tile part;
    for (uint32_t at = 0; at < tile->width; at += part.width) {
        part = esv_neon_part(tile, at);
        if (part.width == 128) {
            run_wide(8, &part, lists, sum_list_8_1, codes + at);
        } else if (part.width >= 64) {
            part.width = 64;
            run_wide(4, &part, lists, sum_list_4_1, codes + at);
        } else {
            part.width = 16;
            run_wide(1, &part, lists, sum_list_1_1, codes + at);
        }
    }
}

static int fire_wide(const esv_tile *tile, const esv_lists *lists, uint8_t *codes)
{
    if (tile->most_rows < 0) {
        return 0;
    }
    for (uint32_t t = 0; t < tile->time_steps; t += 4) {
        uint32_t left = tile->time_steps - t;
        if (!parts_fit(&lists[t >> 2], left < 4 ? left : 4, (uint32_t)tile->most_rows)) {
            return 0;
        }
    }
    fire_wide_parts(tile, lists, codes);
    return 1;
}

const esv_spike_variant esv_spike_neon = {
    .multiplies_bytes = 1,
    .name = "neon",
    .width = ESV_NEON_WIDTH,
    .weight_bytes = 1,
    .sort_bytes = ESV_NEON_SORT_BYTES,
    .expand = esv_neon_expand,
    .sort = esv_neon_sort,
    .splits = esv_neon_splits,
    .fire = fire,
    .fire_wide = fire_wide,
    .mask = esv_neon_mask,
    .run_masks = esv_neon_run_masks,
    .sum_spikes = esv_neon_sum_spikes,
    .sum_levels = esv_neon_sum_levels,
};

#else

typedef int esv_no_neon; /* a file must not be empty */

#endif
