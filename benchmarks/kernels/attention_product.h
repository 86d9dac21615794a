/* Products of bytes, for attention_dense.c. A matrix of `inputs` rows, to be multiplied by, is in
 * panels of 16 columns: [columns / 16][inputs / 4][16][4]; inputs are a multiple of 16.
 */
#include <stddef.h>
#include <stdint.h>

enum { ROWS = 4, PANEL = 16 };

#ifdef __ARM_FEATURE_DOTPROD
#include <arm_neon.h>

typedef struct {
    uint32x4_t v[ROWS][4];
} sums_block;

static inline void store(const sums_block *sum, int32_t *sums, uint32_t stride)
{
    for (uint32_t i = 0; i < 16; i++) {
        vst1q_s32(sums + i / 4 * stride + i % 4 * 4, vreinterpretq_s32_u32(sum->v[i / 4][i % 4]));
    }
}

#define FOUR_INPUTS(lane)                                                      \
    for (int j = 0; j < 4; j++) {                                              \
        uint8x16_t w = vld1q_u8(panel + 64 * (lane) + 16 * j);                 \
        for (int i = 0; i < ROWS; i++) {                                       \
            sum.v[i][j] = vdotq_laneq_u32(sum.v[i][j], w, row[i], lane);       \
        }                                                                      \
    }

/* sums (ROWS, PANEL), `stride` apart, of rows (ROWS, inputs). */
static void block(const uint8_t *rows, const uint8_t *panel, uint32_t inputs, int32_t *sums,
                  uint32_t stride)
{
    sums_block sum = {0};
    for (uint32_t k = 0; k < inputs; k += 16, panel += 256) {
        uint8x16_t row[ROWS];
        for (uint32_t i = 0; i < ROWS; i++) {
            row[i] = vld1q_u8(rows + i * inputs + k);
        }
        FOUR_INPUTS(0)
        FOUR_INPUTS(1)
        FOUR_INPUTS(2)
        FOUR_INPUTS(3)
    }
    store(&sum, sums, stride);
}

/* The same of four columns of a panel, as rows. */
static void block_of_panel(const uint8_t *four, const uint8_t *panel, uint32_t inputs,
                           int32_t *sums, uint32_t stride)
{
    sums_block sum = {0};
    for (uint32_t k = 0; k < inputs; k += 4, panel += 64, four += 64) {
        uint8x16_t rows = vld1q_u8(four);
        for (int j = 0; j < 4; j++) {
            uint8x16_t w = vld1q_u8(panel + 16 * j);
            sum.v[0][j] = vdotq_laneq_u32(sum.v[0][j], w, rows, 0);
            sum.v[1][j] = vdotq_laneq_u32(sum.v[1][j], w, rows, 1);
            sum.v[2][j] = vdotq_laneq_u32(sum.v[2][j], w, rows, 2);
            sum.v[3][j] = vdotq_laneq_u32(sum.v[3][j], w, rows, 3);
        }
    }
    store(&sum, sums, stride);
}
#else /* to be right */
static void block(const uint8_t *rows, const uint8_t *panel, uint32_t inputs, int32_t *sums,
                  uint32_t stride)
{
    for (uint32_t i = 0; i < ROWS * PANEL; i++) {
        int32_t sum = 0;
        for (uint32_t k = 0; k < inputs; k++) {
            sum += rows[i / PANEL * inputs + k] * panel[k / 4 * 64 + i % PANEL * 4 + k % 4];
        }
        sums[i / PANEL * stride + i % PANEL] = sum;
    }
}

static void block_of_panel(const uint8_t *four, const uint8_t *panel, uint32_t inputs,
                           int32_t *sums, uint32_t stride)
{
    for (uint32_t i = 0; i < ROWS * PANEL; i++) {
        int32_t sum = 0;
        for (uint32_t k = 0; k < inputs; k++) {
            uint32_t at = k / 4 * 64 + k % 4;
            sum += four[at + i / PANEL * 4] * panel[at + i % PANEL * 4];
        }
        sums[i / PANEL * stride + i % PANEL] = sum;
    }
}
#endif

/* sums (count, columns) = rows (count, inputs) times panels. */
static void multiply(const uint8_t *rows, uint32_t count, const uint8_t *panels, uint32_t columns,
                     uint32_t inputs, int32_t *sums)
{
    for (uint32_t c = 0; c < columns; c += PANEL) {
        for (uint32_t r = 0; r < count; r += ROWS) {
            block(rows + r * inputs, panels + c * inputs, inputs, sums + r * columns + c, columns);
        }
    }
}

/* sums (count, columns) = the transpose of panels `left` of `count` columns, times panels. */
static void multiply_panels(const uint8_t *left, uint32_t count, const uint8_t *panels,
                            uint32_t columns, uint32_t inputs, int32_t *sums)
{
    for (uint32_t c = 0; c < columns; c += PANEL) {
        for (uint32_t r = 0; r < count; r += ROWS) {
            const uint8_t *four = left + r / PANEL * PANEL * inputs + r % PANEL * 4;
            block_of_panel(four, panels + c * inputs, inputs, sums + r * columns + c, columns);
        }
    }
}
