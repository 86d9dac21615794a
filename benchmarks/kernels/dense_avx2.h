/* AVX2: 4 rows times 16 channels. The rows hold 0 and 1, so that the sum of two products fits the
 * int16 of `maddubs`, and four of those do. */
#include <immintrin.h>
#include <string.h>

enum { ROWS = 4, PANEL = 16 };

/* [K / 4][16 channels][4 inputs] */
static uint32_t panel_place(uint32_t k, uint32_t c, uint32_t inputs)
{
    (void)inputs;
    return k / 4 * 64 + c * 4 + k % 4;
}

static void multiply(const int8_t *rows, const int8_t *weight, uint32_t inputs, int32_t *sums,
                     uint32_t stride)
{
    __m256i sum[4][2], ones = _mm256_set1_epi16(1);
    for (int i = 0; i < 8; i++) {
        sum[i / 2][i % 2] = _mm256_setzero_si256();
    }
    for (uint32_t k = 0; k < inputs; k += 4, weight += 64) {
        __m256i w0 = _mm256_loadu_si256((const void *)weight);
        __m256i w1 = _mm256_loadu_si256((const void *)(weight + 32));
        for (uint32_t i = 0; i < 4; i++) {
            int32_t four;
            memcpy(&four, rows + i * inputs + k, 4);
            __m256i row = _mm256_set1_epi32(four);
            __m256i a = _mm256_maddubs_epi16(row, w0), b = _mm256_maddubs_epi16(row, w1);
            sum[i][0] = _mm256_add_epi32(sum[i][0], _mm256_madd_epi16(a, ones));
            sum[i][1] = _mm256_add_epi32(sum[i][1], _mm256_madd_epi16(b, ones));
        }
    }
    for (uint32_t i = 0; i < 8; i++) {
        _mm256_storeu_si256((void *)(sums + i / 2 * stride + i % 2 * 8), sum[i / 2][i % 2]);
    }
}
