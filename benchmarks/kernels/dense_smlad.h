/* Cortex-M4, M7: 2 rows times 2 channels, two products an instruction. */
#include <arm_acle.h>
#include <string.h>

enum { ROWS = 2, PANEL = 2 };

/* [2 channels][K] */
static uint32_t panel_place(uint32_t k, uint32_t c, uint32_t inputs)
{
    return c * inputs + k;
}

typedef struct {
    int16x2_t even, odd; /* inputs 0, 2 and 1, 3 */
} four_inputs;

static inline four_inputs widen(const int8_t *bytes)
{
    uint32_t four;
    memcpy(&four, bytes, 4);
    uint32_t turned = four >> 8 | four << 24;
    return (four_inputs){__sxtb16((int8x4_t)four), __sxtb16((int8x4_t)turned)};
}

static inline int32_t add(int32_t sum, four_inputs a, four_inputs b)
{
    return __smlad(a.odd, b.odd, __smlad(a.even, b.even, sum));
}

static void multiply(const int8_t *rows, const int8_t *weight, uint32_t inputs, int32_t *sums,
                     uint32_t stride)
{
    int32_t sum00 = 0, sum01 = 0, sum10 = 0, sum11 = 0;
    const int8_t *end = rows + inputs;
    for (; rows < end; rows += 4, weight += 4) {
        four_inputs a = widen(rows), b = widen(rows + inputs);
        four_inputs v = widen(weight), w = widen(weight + inputs);
        sum00 = add(sum00, a, v);
        sum01 = add(sum01, a, w);
        sum10 = add(sum10, b, v);
        sum11 = add(sum11, b, w);
    }
    sums[0] = sum00;
    sums[1] = sum01;
    sums[stride] = sum10;
    sums[stride + 1] = sum11;
}
