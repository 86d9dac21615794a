/* SDT-V1's attention of event frames. A code byte holds all time steps, so the largest of
 * neighbouring spikes is their OR. */
#include "after.h"
#include "lif.h"

#define TILE 8u         /* channels at a time: their counts of all steps lie on the stack */
#define WIDE (TILE + 2) /* a tile and a channel on either side */

/* Channels first .. first + n of one head's tokens; nothing is read beyond either. */
typedef struct {
    const esv_hadamard *attention;
    const uint8_t *a, *b;        /* codes of the head's token 0, combined by AND */
    uint32_t dim, token_and;     /* channels of the head; 0: `b` is the same for all tokens */
} pair;

static ESV_INLINE uint8_t combined(const pair *p, uint32_t token, uint32_t channel)
{
    uint32_t row = token * p->attention->channels;
    return p->a[row + channel] & p->b[p->token_and * row + channel];
}

/* spread (n) = the OR of the up to 9 neighbours of each channel at `token`. */
static void spread_token(const pair *p, uint32_t token, uint32_t first, uint32_t n, uint8_t *spread)
{
    uint32_t low = first ? first - 1 : 0, high = first + n < p->dim ? first + n + 1 : p->dim;
    uint32_t from = token ? token - 1 : 0;
    uint32_t to = token + 1 < p->attention->tokens ? token + 1 : token;
    uint8_t column[WIDE + 2] = {0}; /* column[c + 1 - first] is channel c */
    for (uint32_t at = from; at <= to; at++) {
        for (uint32_t c = low; c < high; c++) {
            column[c + 1 - first] |= combined(p, at, c);
        }
    }
    for (uint32_t i = 0; i < n && i < WIDE; i++) { /* the second bound is the compiler's */
        spread[i] = column[i] | column[i + 1] | column[i + 2];
    }
}

/* mask (n) = the codes of the neurons of channels first .. first + n, n up to WIDE. */
static void fire_masks(const pair *p, uint32_t first, uint32_t n, uint8_t *mask)
{
    const esv_hadamard *a = p->attention;
    int32_t count[8][WIDE] = {{0}}, membrane[WIDE] = {0};
    for (uint32_t token = 0; token < a->tokens; token++) {
        uint8_t both[WIDE];
        spread_token(p, token, first, n, both);
        for (uint32_t t = 0; t < a->time_steps; t++) {
            for (uint32_t i = 0; i < n; i++) {
                count[t][i] += both[i] >> t & 1;
            }
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        mask[i] = 0;
        for (uint32_t t = 0; t < a->time_steps; t++) {
            uint32_t fired = esv_lif32(&membrane[i], count[t][i] << a->shift, a->threshold);
            mask[i] = (uint8_t)(mask[i] | fired << t);
        }
    }
}

/* Output channels first .. first + n of the head that starts at `query`. */
static void pass(const esv_hadamard *a, const pair *coincidences, const uint8_t *query,
                 uint32_t first, uint32_t n, uint8_t *out)
{
    uint32_t dim = coincidences->dim, low = first ? first - 1 : 0;
    uint32_t high = first + n < dim ? first + n + 1 : dim;
    uint8_t mask[WIDE];
    fire_masks(coincidences, low, high - low, mask);
    /* The mask begins at channel `low`, and so does what is read of the queries. */
    pair passed = {a, query + low, mask, high - low, 0};
    for (uint32_t token = 0; token < a->tokens; token++) {
        spread_token(&passed, token, first - low, n, out + token * a->channels + first);
    }
}

void esv_hadamard_spread(const esv_hadamard *a, const uint8_t *query, const uint8_t *key,
                         const uint8_t *value, uint8_t *out)
{
    uint32_t dim = a->channels / a->heads;
    for (uint32_t head = 0; head < a->heads; head++) {
        uint32_t start = head * dim;
        pair coincidences = {a, key + start, value + start, dim, 1};
        for (uint32_t first = 0; first < dim; first += TILE) {
            uint32_t left = dim - first, n = left < TILE ? left : TILE;
            pass(a, &coincidences, query + start, first, n, out + start);
        }
    }
}
