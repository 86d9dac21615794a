/* Cortex-M55: one row times 4 channels, 16 products an instruction. */
#include <arm_mve.h>

enum { ROWS = 1, PANEL = 4 };

/* [4 channels][K] */
static uint32_t panel_place(uint32_t k, uint32_t c, uint32_t inputs)
{
    return c * inputs + k;
}

static void multiply(const int8_t *rows, const int8_t *weight, uint32_t inputs, int32_t *sums,
                     uint32_t stride)
{
    (void)stride;
    int32_t a = 0, b = 0, c = 0, d = 0;
    for (uint32_t k = 0; k < inputs; k += 16, weight += 16) {
        int8x16_t row = vldrbq_s8(rows + k);
        a = vmladavaq_s8(a, row, vldrbq_s8(weight));
        b = vmladavaq_s8(b, row, vldrbq_s8(weight + inputs));
        c = vmladavaq_s8(c, row, vldrbq_s8(weight + 2 * inputs));
        d = vmladavaq_s8(d, row, vldrbq_s8(weight + 3 * inputs));
    }
    sums[0] = a;
    sums[1] = b;
    sums[2] = c;
    sums[3] = d;
}
