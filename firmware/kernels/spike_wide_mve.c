/* Sums in int32, in parts that int16 holds (spike_mve.h). */
#include "spike_mve.h"

#ifdef ESV_MVE

static ESV_APART void add_all(uint32_t n, const int32_t *from, int32_t *to)
{
    for (uint32_t c = 0; c < n; c += 4) {
        mve_pred16_t some = vctp32q(n - c);
        int32x4_t sum = vaddq_s32(vldrwq_z_s32(to + c, some), vldrwq_z_s32(from + c, some));
        vst1q_p_s32(to + c, sum, some);
    }
}

/* sum (width) += the rows of a list. 256 rows cannot leave int16. */
static ESV_APART void add_list_wide(const esv_tile *tile, const esv_lists *lists, uint32_t list,
                                    int32_t *sum)
{
    const uint16_t *row = lists->row + lists->first[list];
    for (uint32_t left = lists->count[list], n; left; left -= n, row += n) {
        int32_t part[ESV_IN_PLACE_WIDTH];
        sums s;
        n = left < 256 ? left : 256;
        clear(VECTORS, &s);
        esv_mve_adder_of(tile)(tile, row, n, &s);
        widen(&s, tile->width, part);
        add_all(tile->width, part, sum);
    }
}

void esv_mve_wide_spikes(const esv_tile *tile, const esv_lists *lists, int32_t *currents)
{
    uint32_t width = tile->width;
    for (uint32_t t = 0; t < tile->time_steps; t++) {
        memcpy(currents + t * width, tile->bias, width * sizeof *currents);
    }
    for (uint32_t g = 0; STEPS * g < tile->time_steps; g++, currents += STEPS * width) {
        for (uint32_t p = 1; p < ESV_LISTS; p++) {
            int32_t bucket[ESV_IN_PLACE_WIDTH] = {0};
            add_list_wide(tile, &lists[g], p, bucket);
            for (uint32_t t = 0; p >> t; t++) {
                if (p >> t & 1 && lists[g].count[p]) {
                    add_all(width, bucket, currents + t * width);
                }
            }
        }
    }
}

void esv_mve_wide_levels(const esv_tile *tile, const esv_lists *lists, uint32_t nibbles,
                         int32_t *currents)
{
    memset(currents, 0, tile->width * sizeof *currents);
    for (uint32_t g = nibbles; g-- > 0;) {
        int32_t running[ESV_IN_PLACE_WIDTH] = {0};
        for (uint32_t c = 0; c < tile->width; c++) {
            currents[c] = (int32_t)((uint32_t)currents[c] << 4);
        }
        for (uint32_t level = esv_top_level(&lists[g]); level > 0; level--) {
            add_list_wide(tile, &lists[g], level, running);
            add_all(tile->width, running, currents);
        }
    }
    add_all(tile->width, tile->bias, currents);
}

#else
typedef int esv_not_empty; /* C wants a declaration in every file */
#endif
