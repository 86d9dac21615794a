#include "after.h"
#include "lif.h"

#include "bytes16.h"

#ifdef ESV_BYTES16
#define PARALLEL 4       /* steps whose counts are registers at the same time */
#define MOST_COUNTED 255 /* tokens of a byte's count */

typedef int32_t words4 __attribute__((vector_size(16)));
typedef uint32_t unsigned4 __attribute__((vector_size(16)));

/* What a tile's bytes become as words, without moving any: word i of part j is byte 4i + j. */
typedef struct {
    unsigned4 part[4];
} tile;

/* n bytes and zeros. */
static ESV_INLINE bytes16 load_bytes(const uint8_t *from, const uint32_t n)
{
    bytes16 all = {0};
    memcpy(&all, from, n);
    return all;
}

static ESV_INLINE void add_bytes(bytes16 bytes, tile *to)
{
    for (uint32_t j = 0; j < 4; j++) {
        to->part[j] += (unsigned4)bytes >> 8 * j & 0xFF;
    }
}

/* Adds to counts at how many of the tokens both fire, for each of four steps from `step` on. */
static ESV_INLINE void count_tokens(const uint8_t *key, const uint8_t *value, uint32_t tokens,
                                    uint32_t channels, const uint32_t n, uint32_t step,
                                    tile *counts)
{
    const bytes16 bit = (bytes16){0} + (uint8_t)(1u << step), bit1 = bit << 1, bit2 = bit << 2,
                  bit3 = bit << 3;
    bytes16 count = {0}, count1 = {0}, count2 = {0}, count3 = {0};
    for (uint32_t token = 0; token < tokens; token++, key += channels, value += channels) {
        bytes16 both = load_bytes(key, n) & load_bytes(value, n);
        /* What is true is -1. */
        count -= (bytes16)((both & bit) != 0);
        count1 -= (bytes16)((both & bit1) != 0);
        count2 -= (bytes16)((both & bit2) != 0);
        count3 -= (bytes16)((both & bit3) != 0);
    }
    add_bytes(count, &counts[0]);
    add_bytes(count1, &counts[1]);
    add_bytes(count2, &counts[2]);
    add_bytes(count3, &counts[3]);
}

/* esv_lif32 of a tile: bit t of the bytes that fire. */
static ESV_INLINE bytes16 fire_tile(const esv_hadamard *a, const tile *counts, uint32_t t,
                                    tile *membrane)
{
    unsigned4 codes = {0};
    for (uint32_t j = 0; j < 4; j++) {
        words4 v = (words4)(membrane->part[j] + (counts->part[j] << a->shift)) >> 1;
        unsigned4 silent = (unsigned4)(v < a->threshold);
        membrane->part[j] = (unsigned4)v & silent;
        codes |= ~silent & 1u << t << 8 * j;
    }
    return (bytes16)codes;
}

/* The codes of the neurons of n channels. */
static ESV_INLINE bytes16 fire_masks(const esv_hadamard *a, const uint8_t *key,
                                     const uint8_t *value, const uint32_t n)
{
    tile membrane = {{{0}}};
    bytes16 mask = {0};
    for (uint32_t step = 0; step < a->time_steps; step += PARALLEL) {
        tile counts[PARALLEL] = {{{{0}}}};
        for (uint32_t token = 0; token < a->tokens; token += MOST_COUNTED) {
            uint32_t left = a->tokens - token;
            size_t at = (size_t)token * a->channels;
            count_tokens(key + at, value + at, left < MOST_COUNTED ? left : MOST_COUNTED,
                         a->channels, n, step, counts);
        }
        for (uint32_t t = 0; t < PARALLEL && step + t < a->time_steps; t++) {
            mask |= fire_tile(a, &counts[t], step + t, &membrane);
        }
    }
    return mask;
}

/* n channels of all tokens. */
static ESV_INLINE void attend(const esv_hadamard *a, const uint8_t *query, const uint8_t *key,
                              const uint8_t *value, const uint32_t n, uint8_t *out)
{
    const bytes16 mask = fire_masks(a, key, value, n);
    const size_t channels = a->channels, end = a->tokens * channels;
    for (size_t at = 0; at < end; at += channels) {
        bytes16 passed = load_bytes(query + at, n) & mask;
        memcpy(out + at, &passed, n);
    }
}

void esv_hadamard_attention(const esv_hadamard *a, const uint8_t *query, const uint8_t *key,
                            const uint8_t *value, uint8_t *out)
{
    if (a->channels < ESV_TILE) {
        attend(a, query, key, value, a->channels, out);
        return;
    }
    const uint32_t last = a->channels - ESV_TILE;
    for (uint32_t at = 0;; at += ESV_TILE) {
        /* The last tile ends with the channels: some of them are worked out twice. */
        at = at < last ? at : last;
        attend(a, query + at, key + at, value + at, ESV_TILE, out + at);
        if (at == last) {
            return;
        }
    }
}
#else
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
#endif
