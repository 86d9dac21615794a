/* How many weight rows a sum in int16 can hold, whichever they are. A certificate in the file is
 * about all rows of a layer; fewer fire at a time, and then layers without one have narrow sums as
 * well.
 */
#include "spike_layer.h"
#include "weights.h"

static int32_t larger(int32_t a, int32_t b)
{
    return a > b ? a : b;
}

/* INT16_MAX less the largest magnitude of a bias; negative: the biases alone do not fit. */
static int32_t room_beside(const int32_t *bias, uint32_t n)
{
    int32_t low = 0, high = 0;
    for (uint32_t i = 0; i < n; i++) {
        low = bias[i] < low ? bias[i] : low;
        high = larger(bias[i], high);
    }
    return low < -INT16_MAX ? -1 : INT16_MAX - larger(high, -low);
}

int32_t esv_spike_any_rows(const int32_t *bias, uint32_t n, uint32_t bits)
{
    int32_t room = room_beside(bias, n);
    return room < 0 ? -1 : room >> (bits - 1);
}

#if !(defined __ARM_ARCH_PROFILE && __ARM_ARCH_PROFILE == 'M')
#include <string.h>

#define VALUES 256 /* of a weight */
#define ALL_ROWS INT32_MAX

/* Most weights of one sign whose sum is within `room`, were it the largest that fire; count: by
 * their magnitude. */
static int32_t most_of(const uint16_t *count, int32_t step, int32_t room)
{
    int32_t rows = 0;
    for (int32_t value = 128; value > 0; value--) {
        int32_t there = count[step * value], fit = room / value;
        if (there > fit) {
            return rows + fit;
        }
        rows += there;
        room -= there * value;
    }
    return ALL_ROWS;
}

/* The same for the `lanes` channels of a packed tile, each in its own place of `count`. */
static int32_t most_in_tile(const uint8_t *packed, uint32_t rows, uint32_t bits, uint32_t lanes,
                            int32_t room)
{
    uint16_t count[ESV_LANES][VALUES + 1]; /* by the weight + 128 */
    int8_t unpacked[ESV_LANES];
    int32_t most = ALL_ROWS;
    memset(count, 0, sizeof count);
    for (uint32_t k = 0; k < rows; k++, packed += esv_row_bytes(bits, lanes)) {
        const int8_t *weight = esv_row(packed, bits, unpacked);
        for (uint32_t c = 0; c < lanes; c++) {
            count[c][weight[c] + VALUES / 2]++;
        }
    }
    for (uint32_t c = 0; c < lanes; c++) {
        int32_t up = most_of(&count[c][VALUES / 2], 1, room);
        int32_t down = most_of(&count[c][VALUES / 2], -1, room);
        most = up < most ? up : most;
        most = down < most ? down : most;
    }
    return most;
}

int32_t esv_spike_most_rows(const esv_conv *conv, uint32_t rows, uint32_t first, uint32_t n,
                            uint32_t times)
{
    int32_t room = room_beside(conv->bias + first, n), most = ALL_ROWS;
    for (uint32_t c = first; room >= 0 && c < first + n; c += ESV_LANES) {
        int32_t of_tile = most_in_tile(esv_tile_at(conv, rows, c), rows, conv->bits,
                                       esv_lanes_of(conv->after.channels, c),
                                       room / (int32_t)times);
        most = of_tile < most ? of_tile : most;
    }
    return room < 0 ? -1 : most > ALL_ROWS / (int32_t)times ? ALL_ROWS : most * (int32_t)times;
}
#endif
