#include "esv_kernels.h"

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

/* Sums are below 2^29 and weights below 2^7: int64 holds any sum of 65535 products, and the
 * program's author has proved that the result fits int32. */
void esv_classify(uint32_t channels, uint32_t classes, const int8_t *weight, const int32_t *bias,
                  const int32_t *sums, int32_t *logits)
{
    for (uint32_t o = 0; o < classes; o++) {
        int64_t score = bias[o];
        for (uint32_t c = 0; c < channels; c++) {
            score += (int64_t)sums[c] * weight[c * classes + o];
        }
        logits[o] = (int32_t)score;
    }
}
