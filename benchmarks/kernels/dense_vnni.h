/* AVX-512 with VNNI: 4 rows times 64 channels by dot products of four. */
#include <immintrin.h>
#include <string.h>

enum { ROWS = 4, PANEL = 64 };

/* [K / 4][64 channels][4 inputs] */
static uint32_t panel_place(uint32_t k, uint32_t c, uint32_t inputs)
{
    (void)inputs;
    return k / 4 * 256 + c * 4 + k % 4;
}

static void multiply(const int8_t *rows, const int8_t *weight, uint32_t inputs, int32_t *sums,
                     uint32_t stride)
{
    __m512i sum[4][4];
    for (int i = 0; i < 16; i++) {
        sum[i / 4][i % 4] = _mm512_setzero_si512();
    }
    for (uint32_t k = 0; k < inputs; k += 4, weight += 256) {
        __m512i w[4];
        for (int j = 0; j < 4; j++) {
            w[j] = _mm512_loadu_si512(weight + 64 * j);
        }
        for (uint32_t i = 0; i < 4; i++) {
            int32_t four;
            memcpy(&four, rows + i * inputs + k, 4);
            __m512i row = _mm512_set1_epi32(four);
            for (int j = 0; j < 4; j++) {
                sum[i][j] = _mm512_dpbusd_epi32(sum[i][j], row, w[j]);
            }
        }
    }
    for (uint32_t i = 0; i < 16; i++) {
        _mm512_storeu_si512(sums + i / 4 * stride + i % 4 * 16, sum[i / 4][i % 4]);
    }
}
