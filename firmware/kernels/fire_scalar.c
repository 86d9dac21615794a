#include "dense.h"

/* current (n) = the sum over `tokens` tokens. Added unsigned: a damaged program's sums may wrap,
 * but never overflow. */
static void sum_tokens(const int16_t *membranes, uint32_t tokens, uint32_t channels, uint32_t n,
                       int32_t *current)
{
    uint32_t sum[ESV_TILE] = {0};
    for (uint32_t token = 0; token < tokens; token++, membranes += channels) {
        for (uint32_t i = 0; i < n; i++) {
            sum[i] += (uint32_t)membranes[i];
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        current[i] = (int32_t)sum[i];
    }
}

void esv_fire(const esv_after *after, uint32_t tokens, int over_tokens, const int16_t *membranes)
{
#ifdef ESV_DENSE
    if (!over_tokens && esv_fire_dense(after, membranes)) {
        return;
    }
#elif defined ESV_FIRES_HALVES
    if (!over_tokens && esv_fire_halves(after, membranes)) {
        return;
    }
#endif
    int32_t current[ESV_TILE], state[ESV_TILE];
    uint32_t channels = after->channels, group = over_tokens ? tokens : 1;
    for (uint32_t token = 0; token < after->tokens; token++) {
        for (uint32_t first = 0; first < channels; first += ESV_TILE) {
            uint32_t left = channels - first, n = left < ESV_TILE ? left : ESV_TILE;
            for (uint32_t t = 0; t < after->time_steps; t++) {
                const int16_t *from = membranes + (t * tokens + token) * channels + first;
                sum_tokens(from, group, channels, n, current);
                esv_after_currents(after, t, token, first, n, current, state);
            }
        }
    }
}
