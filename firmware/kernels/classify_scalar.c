#include "esv_kernels.h"
#include "weights.h"

#include <string.h>

void esv_sum_levels(uint32_t tokens, uint32_t channels, uint8_t time_steps, const uint8_t *levels,
                    int32_t *sums)
{
    memset(sums, 0, channels * sizeof *sums);
    for (uint32_t n = 0; n < tokens * time_steps; n++) {
        for (uint32_t c = 0; c < channels; c++) {
            sums[c] += *levels++;
        }
    }
}

void esv_sum_codes(uint32_t tokens, uint32_t channels, const uint8_t *codes, int32_t *sums)
{
    memset(sums, 0, channels * sizeof *sums);
    for (uint32_t n = 0; n < tokens; n++) {
        for (uint32_t c = 0; c < channels; c++) {
            for (uint32_t bits = *codes++; bits; bits &= bits - 1) {
                sums[c]++;
            }
        }
    }
}

void esv_sum_membranes(uint32_t tokens, uint32_t channels, uint8_t time_steps,
                       const int16_t *membranes, int32_t *sums)
{
    memset(sums, 0, channels * sizeof *sums);
    for (uint32_t n = 0; n < tokens * time_steps; n++) {
        for (uint32_t c = 0; c < channels; c++) {
            sums[c] += *membranes++;
        }
    }
}

/* Sums are below 2^29 and weights below 2^7: int64 holds any sum of 65535 products, and the
 * program's author has proved that the result fits int32. */
void esv_classify(uint32_t channels, const esv_conv *conv, uint8_t shift, const int32_t *sums,
                  const int32_t *stream, uint32_t classes, int32_t *logits)
{
    for (uint32_t first = 0; first < classes; first += ESV_LANES) {
        uint32_t n = esv_lanes_of(classes, first);
        const uint8_t *row = esv_tile_at(conv, channels, first);
        int64_t score[ESV_LANES];
        int8_t unpacked[ESV_LANES];
        for (uint32_t i = 0; i < n; i++) {
            score[i] = (int64_t)1 << shift >> 1;
        }
        for (uint32_t c = 0; c < channels; c++, row += esv_row_bytes(conv->bits, n)) {
            const int8_t *weight = esv_row(row, conv->bits, unpacked);
            for (uint32_t i = 0; i < n; i++) {
                score[i] += (int64_t)sums[c] * weight[i];
            }
        }
        for (uint32_t i = 0; i < n; i++) {
            int64_t first_score = stream ? stream[first + i] : 0;
            logits[first + i] = (int32_t)((score[i] >> shift) + conv->bias[first + i] + first_score);
        }
    }
}
