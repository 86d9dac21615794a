/* The spiking convolution for Armv8.1-M's vector extension (Cortex-M55): packed rows are added
 * where they are (spike_mve.h).
 *
 * A pattern of four steps is a low pair and a high pair of bits. Its bucket is added to one sum of
 * each pair, never to four steps: steps 0 and 1 each are what both have plus what one has.
 */
#include "spike_mve.h"

#ifdef ESV_MVE

/* ---- bias and neurons ---- */

/* The low halves of eight int32. */
static ESV_INLINE int16x8_t load_eight(const int32_t *channel)
{
    return vld2q_s16((const int16_t *)(const void *)channel).val[0];
}

static ESV_APART void load_narrow(const int32_t *channel, uint32_t width, sums *s)
{
    int16_t *to = (int16_t *)s;
    for (uint32_t c = 0; c < ESV_LANES; c += 4) {
        mve_pred16_t there = vctp32q(c < width ? width - c : 0);
        vstrhq_s32(to + c, vldrwq_z_s32(channel + c, there));
    }
}

/* Channels within int16. What the tile has not is 0. */
static ESV_INLINE void load(const int32_t *channel, uint32_t width, sums *s)
{
    if (width % ESV_LANES) {
        load_narrow(channel, width, s);
        return;
    }
    for (uint32_t i = 0; i < width / HALF; i++) {
        s->v[i] = load_eight(channel + HALF * i);
    }
}

/* One step of the neurons of eight channels. In asm because GCC 12 takes each predicate through a
 * core register. */
static ESV_INLINE void lif(int16x8_t current, int16x8_t threshold, uint16x8_t bit,
                           int16x8_t *membrane, uint16x8_t *code)
{
    __asm volatile("vhadd.s16 %q[v], %q[v], %q[current]\n"
                   "vptt.s16 ge, %q[v], %q[threshold]\n"
                   "vorrt %q[code], %q[code], %q[bit]\n"
                   "vmovt.i16 %q[v], #0\n"
                   : [v] "+&w"(*membrane), [code] "+&w"(*code)
                   : [current] "w"(current), [threshold] "w"(threshold), [bit] "w"(bit)
                   : "cc");
}

/* Eight channels of up to four steps, which begin with step number `first`. */
static ESV_INLINE void fire_eight(const sums *step, uint32_t i, uint32_t steps, uint32_t first,
                                  int16x8_t threshold, int16x8_t *membrane, uint16x8_t *code)
{
    uint16x8_t bit = vdupq_n_u16((uint16_t)(1u << first));
    for (uint32_t t = 0; t < steps; t++) {
        lif(step[t].v[i], threshold, bit, membrane, code);
        bit = vaddq_u16(bit, bit);
    }
}

static ESV_INLINE void fire_four(const sums *step, uint32_t i, int16x8_t threshold,
                                 int16x8_t *membrane, uint16x8_t *code)
{
#pragma GCC unroll 4
    for (uint32_t t = 0; t < STEPS; t++) {
        lif(step[t].v[i], threshold, vdupq_n_u16((uint16_t)(1u << t)), membrane, code);
    }
}

static ESV_INLINE void fire_steps(const sums *step, uint32_t steps, const esv_tile *tile,
                                  uint8_t *codes)
{
    for (uint32_t i = 0; i < tile->width / HALF; i++) {
        int16x8_t membrane = vdupq_n_s16(0);
        uint16x8_t code = vdupq_n_u16(0);
        int16x8_t threshold = load_eight(tile->threshold + HALF * i);
        if (steps == STEPS) {
            fire_four(step, i, threshold, &membrane, &code);
        } else {
            fire_eight(step, i, steps, 0, threshold, &membrane, &code);
        }
        vstrbq_u16(codes + HALF * i, code);
    }
}

/* The neurons of a tile whose width or steps are unusual. */
typedef struct {
    sums membrane, threshold;
    uint16x8_t code[VECTORS];
} neurons;

static ESV_APART void fire_some(const sums *step, uint32_t steps, uint32_t first, uint32_t width,
                                neurons *n)
{
    for (uint32_t i = 0; i * HALF < width; i++) {
        fire_eight(step, i, steps, first, n->threshold.v[i], &n->membrane.v[i], &n->code[i]);
    }
}

static ESV_APART void put_codes(const neurons *n, uint32_t width, uint8_t *codes)
{
    for (uint32_t c = 0; c < width; c += HALF) {
        vstrbq_p_u16(codes + c, n->code[c / HALF], vctp16q(width - c));
    }
}

/* ---- sums in int16 ---- */

/* What the steps of each pair both have while the sums are made. */
typedef struct {
    sums both[2];
} two_pairs;

/* Add the rows of a pattern with steps of both pairs to what the pairs have. */
static ESV_INLINE void spread(uint32_t vectors, const sums *bucket, uint32_t p, two_pairs *pairs,
                              sums *step)
{
    uint32_t low = p & 3, high = p >> 2;
    add_sums(vectors, bucket, low == 3 ? &pairs->both[0] : &step[low - 1]);
    add_sums(vectors, bucket, high == 3 ? &pairs->both[1] : &step[high + 1]);
}

static ESV_INLINE void clear_steps(uint32_t vectors, sums *step)
{
    for (uint32_t t = 0; t < STEPS; t++) {
        clear(vectors, &step[t]);
    }
}

/* The patterns with steps of both pairs, with rows of 16 bytes. */
static ESV_INLINE void add_mixed(const esv_tile *tile, const esv_lists *lists, uint32_t vectors,
                                 two_pairs *pairs, sums *step)
{
    clear_steps(vectors, step);
    for (uint32_t p = 5, mixed = lists->first[0]; mixed >> p; p++) {
        if (mixed >> p & 1) {
            sums bucket;
            cursor c = cursor_at(tile, lists, p);
            clear(vectors, &bucket);
            add_next(vectors, &bucket, &c, lists->count[p]);
            spread(vectors, &bucket, p, pairs, step);
        }
    }
}

static ESV_APART void add_mixed_one(const esv_tile *tile, const esv_lists *lists,
                                    two_pairs *pairs, sums *step)
{
    add_mixed(tile, lists, 2, pairs, step);
}

static ESV_APART void add_mixed_two(const esv_tile *tile, const esv_lists *lists,
                                    two_pairs *pairs, sums *step)
{
    add_mixed(tile, lists, VECTORS, pairs, step);
}

/* The steps of a pair, with patterns `unit`, 2 unit and 3 unit: rows of 16 bytes. */
static ESV_INLINE void add_pair(const esv_lists *lists, uint32_t unit, uint32_t mixed,
                                uint32_t vectors, cursor *c, sums *both, sums *step)
{
    sums s;
    copy(vectors, both, &s);
    add_next(vectors, &s, c, lists->count[3 * unit]);
    copy(vectors, &s, both);
#pragma GCC unroll 2
    for (uint32_t i = 0; i < 2; i++) {
        if (i) {
            copy(vectors, both, &s);
        }
        if (mixed) {
            add_sums(vectors, &step[i], &s);
        }
        add_next(vectors, &s, c, lists->count[(i + 1) * unit]);
        copy(vectors, &s, &step[i]);
    }
}

static ESV_INLINE void add_single(const esv_tile *tile, const esv_lists *lists, uint32_t vectors,
                                  sums *step)
{
    cursor c = cursor_at(tile, lists, 1);
    sums s;
    load(tile->bias, vectors * HALF, &s);
    add_next(vectors, &s, &c, lists->count[1]);
    copy(vectors, &s, step);
}

static ESV_INLINE void add_pairs(const esv_tile *tile, const esv_lists *lists, uint32_t steps,
                                 uint32_t vectors, sums *step)
{
    uint32_t mixed = lists->first[0];
    two_pairs pairs;
    load(tile->bias, vectors * HALF, &pairs.both[0]);
    copy(vectors, &pairs.both[0], &pairs.both[1]);
    if (mixed) {
        (vectors == VECTORS ? add_mixed_two : add_mixed_one)(tile, lists, &pairs, step);
    }
    cursor c = cursor_at(tile, lists, 3);
    add_pair(lists, 1, mixed, vectors, &c, &pairs.both[0], &step[0]);
    if (steps > 2) {
        add_pair(lists, 4, mixed, vectors, &c, &pairs.both[1], &step[2]);
    }
}

/* step, of which `steps` are used: bias and rows of 16 bytes of the steps of one nibble. */
static ESV_INLINE void sum_whole(const esv_tile *tile, const esv_lists *lists, uint32_t steps,
                                 uint32_t vectors, sums *step)
{
    if (steps == 1) {
        add_single(tile, lists, vectors, step);
    } else {
        add_pairs(tile, lists, steps, vectors, step);
    }
}

static ESV_APART void sum_one(const esv_tile *tile, const esv_lists *lists, uint32_t steps,
                              sums *step)
{
    sum_whole(tile, lists, steps, 2, step);
}

static ESV_APART void sum_two(const esv_tile *tile, const esv_lists *lists, uint32_t steps,
                              sums *step)
{
    sum_whole(tile, lists, steps, VECTORS, step);
}

static void add_list(const esv_tile *tile, esv_mve_adder *add, const esv_lists *lists,
                     uint32_t list, sums *s)
{
    if (lists->count[list]) {
        add(tile, lists->row + lists->first[list], lists->count[list], s);
    }
}

static ESV_APART void add_mixed_others(const esv_tile *tile, esv_mve_adder *add,
                                       const esv_lists *lists, two_pairs *pairs, sums *step)
{
    for (uint32_t p = 5, mixed = lists->first[0]; mixed >> p; p++) {
        if (mixed >> p & 1) {
            sums bucket;
            clear(VECTORS, &bucket);
            add_list(tile, add, lists, p, &bucket);
            spread(VECTORS, &bucket, p, pairs, step);
        }
    }
}

/* Bias and what has steps of both pairs. */
static ESV_INLINE void begin_others(const esv_tile *tile, esv_mve_adder *add,
                                    const esv_lists *lists, two_pairs *pairs, sums *step)
{
    load(tile->bias, tile->width, &pairs->both[0]);
    copy(VECTORS, &pairs->both[0], &pairs->both[1]);
    clear_steps(VECTORS, step);
    if (lists->first[0]) {
        add_mixed_others(tile, add, lists, pairs, step);
    }
}

/* As sum_whole, of rows in other forms. */
static ESV_APART void sum_others(const esv_tile *tile, const esv_lists *lists, uint32_t steps,
                                 sums *step)
{
    esv_mve_adder *add = esv_mve_adder_of(tile);
    two_pairs pairs;
    begin_others(tile, add, lists, &pairs, step);
    add_list(tile, add, lists, 3, &pairs.both[0]);
    add_list(tile, add, lists, 12, &pairs.both[1]);
    for (uint32_t t = 0; t < steps; t++) {
        add_sums(VECTORS, &pairs.both[t / 2], &step[t]);
        add_list(tile, add, lists, 1u << t, &step[t]);
    }
}

static uint32_t steps_in(const esv_tile *tile, uint32_t group)
{
    uint32_t left = tile->time_steps - STEPS * group;
    return left < STEPS ? left : STEPS;
}

static void sum_steps(const esv_tile *tile, const esv_lists *lists, uint32_t group, sums *step)
{
    if (tile->row_bytes != ESV_LANES) {
        sum_others(tile, &lists[group], steps_in(tile, group), step);
    } else if (tile->width > ESV_LANES) {
        sum_two(tile, &lists[group], steps_in(tile, group), step);
    } else {
        sum_one(tile, &lists[group], steps_in(tile, group), step);
    }
}

static ESV_APART void fire_unusual(const esv_tile *tile, const esv_lists *lists, uint8_t *codes)
{
    sums step[STEPS];
    neurons n;
    memset(&n, 0, sizeof n);
    load(tile->threshold, tile->width, &n.threshold);
    for (uint32_t g = 0; STEPS * g < tile->time_steps; g++) {
        sum_steps(tile, lists, g, step);
        fire_some(step, steps_in(tile, g), STEPS * g, tile->width, &n);
    }
    put_codes(&n, tile->width, codes);
}

static void fire(const esv_tile *tile, const esv_lists *lists, uint8_t *codes)
{
    uint32_t steps = tile->time_steps;
    sums step[STEPS];
    if (tile->width % ESV_LANES || steps > STEPS) {
        fire_unusual(tile, lists, codes);
        return;
    }
    sum_steps(tile, lists, 0, step);
    if (steps == 4) {
        fire_steps(step, 4, tile, codes);
    } else {
        fire_steps(step, steps, tile, codes);
    }
}

static void narrow_spikes(const esv_tile *tile, const esv_lists *lists, int32_t *currents)
{
    sums step[STEPS];
    for (uint32_t g = 0; STEPS * g < tile->time_steps; g++) {
        uint32_t steps = steps_in(tile, g);
        sum_steps(tile, lists, g, step);
        for (uint32_t t = 0; t < steps; t++, currents += tile->width) {
            widen(&step[t], tile->width, currents);
        }
    }
}

static ESV_INLINE void times_16(sums *s)
{
    for (uint32_t i = 0; i < VECTORS; i++) {
        s->v[i] = vshlq_n_s16(s->v[i], 4);
    }
}

/* From the highest level down, so that a row is added once and its bucket as often as its level:
 * `running` holds all rows of this level or a higher one. */
static void narrow_levels(const esv_tile *tile, const esv_lists *lists, uint32_t nibbles,
                          int32_t *currents)
{
    esv_mve_adder *add = esv_mve_adder_of(tile);
    sums s, bias;
    clear(VECTORS, &s);
    load(tile->bias, tile->width, &bias);
    for (uint32_t g = nibbles; g-- > 0;) {
        sums running;
        clear(VECTORS, &running);
        times_16(&s);
        for (uint32_t level = esv_top_level(&lists[g]); level > 0; level--) {
            add_list(tile, add, &lists[g], level, &running);
            add_sums(VECTORS, &running, &s);
        }
    }
    add_sums(VECTORS, &bias, &s);
    widen(&s, tile->width, currents);
}

static void sum_spikes(const esv_tile *tile, const esv_lists *lists, int wide, int32_t *currents)
{
    (wide ? esv_mve_wide_spikes : narrow_spikes)(tile, lists, currents);
}

static void sum_levels(const esv_tile *tile, const esv_lists *lists, uint32_t nibbles, int wide,
                       int32_t *currents)
{
    (wide ? esv_mve_wide_levels : narrow_levels)(tile, lists, nibbles, currents);
}

const esv_spike_variant esv_spike_mve = {
    .name = "mve", .width = 2 * ESV_LANES, .sort = esv_mve_sort, .fire = fire,
    .sum_spikes = sum_spikes, .sum_levels = sum_levels,
};

#else
typedef int esv_not_empty; /* C wants a declaration in every file */
#endif
