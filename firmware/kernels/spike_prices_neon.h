/* By benchmarks/roads.py: instructions on Cortex-A76, of words on Cortex-A72. */
static const lists_prices neon_lists[] = {
    [SPIKES] = {53.7f, 366, 1.2f, 5.45f, 2.51f, 21.5f, 180},
    [SPIKES_IN_LINES] = {109, 653, 20, 4.65f, 1.97f, 19.4f, 92.1f},
    [LEVELS] = {695, 319, 1.11f, 11.6f, 3.01f, 28.6f, 187},
    [LEVELS_IN_LINES] = {0, 1000, 85.4f, 6.65f, 2.52f, 39.9f, 133},
    [LEVELS_OF_STEPS] = {537, 470, 6.49f, 19.7f, 1.88f, 23.5f, 160},
};
static const dense_prices neon_bytes = {1.48f, 4, 69.2f, 0.221f, 213, 0.504f, 20.1f};
static const dense_prices neon_words = {2.86f, 8, 58.4f, 0.611f, 212, 0.458f, 19.8f};
/* Of sums in int32. */
static const dense_prices neon_wide = {5, 16, 58.4f, 0.611f, 212, 0.458f, 19.8f};

static const masks_prices neon_masks = {5.31f, 64.4f, 12.7f, 6.71f, 1.9f, 12.7f, 51.8f};

static const lists_prices *lists_prices_of(const esv_spike_variant *k)
{
    (void)k;
    return neon_lists;
}

static const dense_prices *dense_prices_of(const esv_spike_variant *k, int narrow,
                                           uint32_t max_level)
{
    if (esv_dense_has_bytes(k) && max_level <= ESV_DENSE_LARGEST_BYTE) {
        return &neon_bytes;
    }
    return narrow ? &neon_words : &neon_wide;
}

static const masks_prices *masks_prices_of(const esv_spike_variant *k)
{
    (void)k;
    return &neon_masks;
}
