/* The spiking convolution for Armv8.1-M's vector extension (Cortex-M55): packed rows are added
 * where they are (spike_mve.h).
 *
 * A pattern of four steps is a low pair and a high pair of bits. Its bucket is added to one sum of
 * each pair, never to four steps: steps 0 and 1 each are what both have plus what one has.
 */
#include "spike_mve.h"

#ifdef ESV_MVE

/* What the sums of a nibble's four steps are made of: at first what both steps of a pair have, and
 * what each has alone if there are lists with steps of both pairs. At last `step` are the sums. */
typedef struct {
    sums both[2], step[STEPS];
} four_steps;

/* ---- bias and neurons ---- */

/* The low halves of eight int32. */
static ESV_INLINE int16x8_t load_eight(const int32_t *channel)
{
    return vld2q_s16((const int16_t *)(const void *)channel).val[0];
}

static ESV_APART void load_narrow(const int32_t *channel, uint32_t width, sums *s)
{
    int16_t *to = (int16_t *)s;
    for (uint32_t c = 0; c < ESV_LANES; c++) {
        to[c] = c < width ? (int16_t)channel[c] : 0;
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

/* Codes of the eight channels of vector i. */
static ESV_INLINE uint16x8_t fire_eight(const four_steps *groups, uint32_t i, uint32_t steps,
                                        int16x8_t threshold)
{
    int16x8_t membrane = vdupq_n_s16(0);
    uint16x8_t code = vdupq_n_u16(0), bit = vdupq_n_u16(1);
#pragma GCC unroll 4
    for (uint32_t t = 0; t < steps; t++) {
        lif(groups[t / STEPS].step[t % STEPS].v[i], threshold, bit, &membrane, &code);
        bit = vaddq_u16(bit, bit);
    }
    return code;
}

static ESV_INLINE void fire_steps(const four_steps *groups, uint32_t steps, const esv_tile *tile,
                                  uint8_t *codes)
{
    for (uint32_t i = 0; i < tile->width / HALF; i++) {
        int16x8_t threshold = load_eight(tile->threshold + HALF * i);
        vstrbq_u16(codes + HALF * i, fire_eight(groups, i, steps, threshold));
    }
}

static ESV_APART void fire_narrow(const four_steps *groups, const esv_tile *tile, uint8_t *codes)
{
    sums threshold;
    load_narrow(tile->threshold, tile->width, &threshold);
    for (uint32_t i = 0, left = tile->width; i < 2; i++) {
        uint32_t n = left < HALF ? left : HALF;
        uint16x8_t code = fire_eight(groups, i, tile->time_steps, threshold.v[i]);
        vstrbq_p_u16(codes + HALF * i, code, vctp16q(n));
        left -= n;
    }
}

/* ---- sums in int16 ---- */

static ESV_INLINE void add_list(const esv_tile *tile, const esv_lists *lists, uint32_t list,
                                sums *s)
{
    if (lists->count[list]) {
        esv_mve_add_rows(tile, lists->row + lists->first[list], lists->count[list], s);
    }
}

/* Sum the rows of the patterns with steps of both pairs and add each to what the pairs have. */
static ESV_INLINE void add_mixed(const esv_tile *tile, const esv_lists *lists, uint32_t mixed,
                                 uint32_t vectors, int whole, four_steps *f)
{
    sums *low[] = {&f->step[0], &f->step[1], &f->both[0]};
    sums *high[] = {&f->step[2], &f->step[3], &f->both[1]};
    for (uint32_t t = 0; t < STEPS; t++) {
        clear(vectors, &f->step[t]);
    }
    for (uint32_t p = 5; mixed >> p; p++) {
        if (!(mixed >> p & 1)) {
            continue;
        }
        sums bucket;
        clear(vectors, &bucket);
        if (whole) {
            cursor c = cursor_at(tile, lists, p);
            add_next(vectors, &bucket, &c, lists->count[p]);
        } else {
            add_list(tile, lists, p, &bucket);
        }
        add_sums(vectors, &bucket, low[(p & 3) - 1]);
        add_sums(vectors, &bucket, high[(p >> 2) - 1]);
    }
}

static ESV_APART void add_mixed_one(const esv_tile *tile, const esv_lists *lists, four_steps *f)
{
    add_mixed(tile, lists, lists->first[0], 2, 1, f);
}

static ESV_APART void add_mixed_two(const esv_tile *tile, const esv_lists *lists, four_steps *f)
{
    add_mixed(tile, lists, lists->first[0], VECTORS, 1, f);
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
                                  four_steps *f)
{
    cursor c = cursor_at(tile, lists, 1);
    sums s;
    copy(vectors, &f->both[0], &s);
    add_next(vectors, &s, &c, lists->count[1]);
    copy(vectors, &s, &f->step[0]);
}

/* f->step, of which `steps` are used: bias and rows of 16 bytes of the steps of one nibble. */
static ESV_INLINE void sum_whole(const esv_tile *tile, const esv_lists *lists, uint32_t steps,
                                 uint32_t vectors, four_steps *f)
{
    uint32_t mixed = lists->first[0];
    load(tile->bias, vectors * HALF, &f->both[0]);
    if (steps == 1) {
        add_single(tile, lists, vectors, f);
        return;
    }
    copy(vectors, &f->both[0], &f->both[1]);
    if (mixed) {
        (vectors == VECTORS ? add_mixed_two : add_mixed_one)(tile, lists, f);
    }
    cursor c = cursor_at(tile, lists, 3);
    add_pair(lists, 1, mixed, vectors, &c, &f->both[0], &f->step[0]);
    if (steps > 2) {
        add_pair(lists, 4, mixed, vectors, &c, &f->both[1], &f->step[2]);
    }
}

static ESV_APART void sum_one(const esv_tile *tile, const esv_lists *lists, uint32_t steps,
                              four_steps *f)
{
    sum_whole(tile, lists, steps, 2, f);
}

static ESV_APART void sum_two(const esv_tile *tile, const esv_lists *lists, uint32_t steps,
                              four_steps *f)
{
    sum_whole(tile, lists, steps, VECTORS, f);
}

/* The same of rows in other forms. */
static ESV_APART void sum_others(const esv_tile *tile, const esv_lists *lists, uint32_t steps,
                                 four_steps *f)
{
    uint32_t mixed = lists->first[0];
    load(tile->bias, tile->width, &f->both[0]);
    f->both[1] = f->both[0];
    if (mixed) {
        add_mixed(tile, lists, mixed, VECTORS, 0, f);
    }
    for (uint32_t i = 0; i < (steps + 1) / 2; i++) {
        add_list(tile, lists, i ? 12 : 3, &f->both[i]);
    }
    for (uint32_t t = 0; t < steps; t++) {
        if (mixed) {
            add_sums(VECTORS, &f->both[t / 2], &f->step[t]);
        } else {
            f->step[t] = f->both[t / 2];
        }
        add_list(tile, lists, 1u << t, &f->step[t]);
    }
}

static uint32_t steps_in(const esv_tile *tile, uint32_t group)
{
    uint32_t left = tile->time_steps - STEPS * group;
    return left < STEPS ? left : STEPS;
}

static void sum_steps(const esv_tile *tile, const esv_lists *lists, uint32_t group, four_steps *f)
{
    if (tile->row_bytes != ESV_LANES) {
        sum_others(tile, &lists[group], steps_in(tile, group), f);
    } else if (tile->width > ESV_LANES) {
        sum_two(tile, &lists[group], steps_in(tile, group), f);
    } else {
        sum_one(tile, &lists[group], steps_in(tile, group), f);
    }
}

static void fire(const esv_tile *tile, const esv_lists *lists, uint8_t *codes)
{
    four_steps groups[2];
    for (uint32_t g = 0; STEPS * g < tile->time_steps; g++) {
        sum_steps(tile, lists, g, &groups[g]);
    }
    if (tile->width % ESV_LANES) {
        fire_narrow(groups, tile, codes);
    } else if (tile->time_steps == 4) {
        fire_steps(groups, 4, tile, codes);
    } else if (tile->time_steps == 1) {
        fire_steps(groups, 1, tile, codes);
    } else {
        fire_steps(groups, tile->time_steps, tile, codes);
    }
}

static void narrow_spikes(const esv_tile *tile, const esv_lists *lists, int32_t *currents)
{
    four_steps f;
    for (uint32_t g = 0; STEPS * g < tile->time_steps; g++) {
        uint32_t steps = steps_in(tile, g);
        sum_steps(tile, lists, g, &f);
        for (uint32_t t = 0; t < steps; t++, currents += tile->width) {
            widen(&f.step[t], tile->width, currents);
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
    sums s, bias;
    clear(VECTORS, &s);
    load(tile->bias, tile->width, &bias);
    for (uint32_t g = nibbles; g-- > 0;) {
        sums running;
        clear(VECTORS, &running);
        times_16(&s);
        for (uint32_t level = ESV_LISTS; level-- > 1;) {
            add_list(tile, &lists[g], level, &running);
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
