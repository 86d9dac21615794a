/* The memory of spiking convolutions, and what is made once for either road. */
#include "spike_masks.h"

#define LIST_BYTES (1u << 20) /* of a block; about a third is touched, the rest is room */
#define MOST_DENSE (64u << 20)  /* bytes of products */
#define MOST_POOLED (16u << 20) /* bytes of currents that wait to be pooled */

uint64_t esv_spike_prepared_bytes(const esv_window *w, int levels, const esv_conv *conv,
                                  const esv_spike_variant *k)
{
    uint64_t bytes = esv_spike_tiles_bytes(esv_spike_rows(w), conv, k);
#ifdef ESV_DENSE
    esv_dense_memory count = {0, 0, UINT64_MAX};
    esv_spike_dense_prepare(w, levels, conv, k, &count);
    return bytes ? bytes + count.used : 0;
#else
    (void)levels;
    return bytes;
#endif
}

void esv_spike_prepare(const esv_window *w, int levels, const esv_conv *conv,
                       const esv_spike_variant *k, void *memory)
{
    uint32_t rows = esv_spike_rows(w);
    esv_spike_prepare_tiles(rows, levels ? w->max_level : 1, conv, k, memory);
#ifdef ESV_DENSE
    uint8_t *start = (uint8_t *)memory + esv_spike_tiles_bytes(rows, conv, k);
    esv_dense_memory behind = {start, 0, UINT64_MAX};
    esv_spike_dense_prepare(w, levels, conv, k, &behind);
#endif
}

uint32_t esv_spike_conv_scratch(const esv_window *w, int levels)
{
    return esv_spike_fixed_bytes(w, levels, 0, &ESV_SPIKE_IN_PLACE) +
           esv_spike_token_bytes(w, levels);
}

static uint32_t lists_work(const esv_window *w, int levels, const esv_spike_variant *kernel)
{
    uint32_t tokens = (uint32_t)w->out_height * w->out_width, token;
    uint32_t most = tokens < ESV_MOST_TOKENS ? tokens : ESV_MOST_TOKENS;
    token = esv_spike_token_bytes(w, levels);
    uint32_t block = token < LIST_BYTES / most ? most : LIST_BYTES / token;
    uint32_t bytes = esv_spike_fixed_bytes(w, levels, esv_spike_lines(w, levels), kernel) +
                     (block ? block : 1) * token;
#ifdef ESV_DENSE
    uint64_t more = w->pool ? esv_spike_pooled_bytes(w, w->out_channels) : 0;
    bytes += more < MOST_POOLED ? (uint32_t)more : 0;
#endif
    return bytes;
}

uint32_t esv_spike_conv_work(const esv_window *w, int levels, const esv_spike_variant *kernel)
{
    uint32_t lists = lists_work(w, levels, kernel);
#ifdef ESV_DENSE
    uint64_t dense = esv_spike_planned_work(w, levels, kernel);
    uint64_t masks = esv_spike_masks_work(w, levels, w->out_channels, kernel);
    uint64_t more = dense > masks ? dense : masks;
    return more > lists && more < MOST_DENSE ? (uint32_t)more : lists;
#else
    return lists;
#endif
}
