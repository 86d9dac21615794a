/* Spiking self-attention on AArch64, in linear order: K^T V of each step first, then Q times it, as
 * self_attention_scalar.c has it. Only what fired is touched: a key's spike adds the value's spikes
 * to a row of counts, 64 at a time, and a query's spike adds a row of counts to the sums. With at
 * most 255 tokens a count is a byte. Levels have self_attention_levels_neon.c.
 */
#if defined(__aarch64__) && defined(__ARM_NEON)

#include "self_attention_neon.h"

/* Of bytes: how many can be added as such, at least 1, and whether they are small. */
static void find_groups(const esv_attention *a, esv_counts *t)
{
    size_t plane = a->query_dim * t->stride;
    const uint8_t *at = t->counts;
    uint64_t membrane = a->threshold > 0 ? (uint64_t)a->threshold : 0; /* and no more */
    int small = a->shift < 8;
    for (uint32_t step = 0; step < a->time_steps; step++) {
        uint8x16_t most = vdupq_n_u8(1);
        for (size_t i = 0; i < plane; i += 16, at += 16) {
            most = vmaxq_u8(most, vld1q_u8(at));
        }
        uint32_t largest = vmaxvq_u8(most);
        t->group[step] = 255 / largest;
        small &= (((uint64_t)largest * a->query_dim) << a->shift) + membrane <= UINT16_MAX;
    }
    t->kind = small ? ESV_SMALL_BYTES : ESV_BYTES;
}

static void run_head(const esv_attention *a, const esv_head *head, esv_counts *t)
{
    size_t counts = a->time_steps * a->query_dim * t->stride;
    if (esv_neon_is_narrow(a)) {
        esv_neon_narrow_head(a, head);
        return;
    }
    memset(t->counts, 0, t->kind == ESV_WORDS ? 2 * counts : counts);
    for (uint32_t first = 0; first < a->value_dim; first += BLOCK) {
        esv_neon_count(a, head, t, first, a->value_dim - first);
    }
    if (t->kind != ESV_WORDS) {
        find_groups(a, t);
    }
    for (uint32_t first = 0; first < a->value_dim; first += BLOCK) {
        esv_neon_attend(a, head, t, first, a->value_dim - first);
    }
}

/* Levels: whether whole registers are filled. Spikes: whether 16-bit words do, and the counts find
 * room: of few channels on the stack, else in scratch with whole registers in a row. */
static int is_for_neon(const esv_attention *a, const esv_counts *t)
{
    if (a->levels) {
        return a->value_dim >= ESV_LEVEL_COLUMNS;
    }
    return a->threshold <= INT16_MAX && a->shift < 16 &&
           (uint32_t)a->tokens * a->query_dim <= UINT16_MAX &&
           (esv_neon_is_narrow(a) || (t->kind == ESV_WORDS ? t->stride == a->value_dim
                                                           : t->stride <= 2u * a->value_dim));
}

typedef struct {
    const esv_attention *attention;
    const uint8_t *query, *key, *value;
    uint8_t *out;
    void *scratch; /* without a crew's work */
    const esv_crew *crew;
    esv_counts counts; /* but where they are */
    size_t query_bytes, value_bytes; /* of all heads */
    uint32_t largest_query; /* of levels */
} job;

static void attend_head(void *context, uint32_t h, uint32_t member)
{
    const job *j = context;
    const esv_attention *a = j->attention;
    esv_head head = {
        j->query + h * a->query_dim, j->key + h * a->query_dim, j->value + h * a->value_dim,
        j->out + h * a->value_dim, (size_t)a->heads * a->query_dim,
        (size_t)a->heads * a->value_dim, j->query + j->query_bytes, j->key + j->query_bytes,
        j->value + j->value_bytes,
    };
    esv_counts t = j->counts;
    t.counts = j->scratch;
    if (j->crew) {
        t.counts = (uint8_t *)j->crew->work + (size_t)member * j->crew->work_bytes;
    }
    if (a->levels) {
        esv_neon_levels_head(a, &head, j->largest_query, t.counts);
    } else {
        run_head(a, &head, &t);
    }
}

void esv_self_attention_neon(const esv_attention *a, const uint8_t *query, const uint8_t *key,
                             const uint8_t *value, uint8_t *out, void *scratch,
                             const esv_crew *crew)
{
    esv_counts t = {NULL, (a->value_dim + 15u) & ~15u,
                    a->tokens <= ESV_MAX_BYTE_TOKENS ? ESV_BYTES : ESV_WORDS, {0}};
    if (!is_for_neon(a, &t)) {
        esv_self_attention(a, query, key, value, out, scratch, crew);
        return;
    }
    int roomy = crew && crew->work_bytes >= esv_self_attention_scratch(a);
    size_t tokens = (size_t)a->tokens * a->heads * (a->levels ? a->time_steps : 1u);
    job j = {a, query, key, value, out, scratch, roomy ? crew : NULL, t, tokens * a->query_dim,
             tokens * a->value_dim, 0};
    if (a->levels) {
        j.largest_query = esv_neon_largest_level(query, j.query_bytes);
    }
    esv_share(j.crew, attend_head, &j, a->heads);
}

#else

typedef int esv_no_neon_attention; /* a file must not be empty */

#endif
