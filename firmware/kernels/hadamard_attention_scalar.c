#include "after.h"
#include "lif.h"

/* mask (n) = the codes of the neurons of channels first .. first + n. */
static void fire_masks(const esv_hadamard *a, const uint8_t *key, const uint8_t *value,
                       uint32_t first, uint32_t n, uint8_t *mask)
{
    int32_t membrane[ESV_TILE] = {0};
    for (uint32_t i = 0; i < n; i++) {
        mask[i] = 0;
    }
    for (uint32_t t = 0; t < a->time_steps; t++) {
        int32_t both[ESV_TILE] = {0};
        for (uint32_t at = first, token = 0; token < a->tokens; token++, at += a->channels) {
            for (uint32_t i = 0; i < n; i++) {
                both[i] += (key[at + i] & value[at + i]) >> t & 1;
            }
        }
        for (uint32_t i = 0; i < n; i++) {
            uint32_t fired = esv_lif32(&membrane[i], both[i] << a->shift, a->threshold);
            mask[i] = (uint8_t)(mask[i] | fired << t);
        }
    }
}

void esv_hadamard_attention(const esv_hadamard *a, const uint8_t *query, const uint8_t *key,
                            const uint8_t *value, uint8_t *out)
{
    uint8_t mask[ESV_TILE];
    for (uint32_t first = 0; first < a->channels; first += ESV_TILE) {
        uint32_t left = a->channels - first, n = left < ESV_TILE ? left : ESV_TILE;
        fire_masks(a, key, value, first, n, mask);
        for (uint32_t at = first, token = 0; token < a->tokens; token++, at += a->channels) {
            for (uint32_t i = 0; i < n; i++) {
                out[at + i] = query[at + i] & mask[i];
            }
        }
    }
}
