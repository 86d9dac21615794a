/* By benchmarks/roads.py: instructions on Cortex-A76, of words on Cortex-A72. */
static const lists_prices neon_lists[] = {
    [SPIKES] = {275, 223, 1, 6.58f, 2.33f, 29.2f, 181},
    [SPIKES_IN_LINES] = {0, 692, 60.3f, 5.02f, 1.93f, 18.3f, 113},
    [LEVELS] = {707, 307, 1.22f, 10.9f, 3.33f, 27.8f, 181},
    [LEVELS_IN_LINES] = {0, 963, 87.9f, 6.95f, 2.42f, 44.9f, 131},
    [LEVELS_OF_STEPS] = {566, 415, 6.12f, 22, 2.13f, 22.9f, 157},
};
static const dense_prices neon_bytes = {1.48f, 4, 69.2f, 0.221f, 213, 0.504f, 20.1f};
static const dense_prices neon_words = {2.86f, 8, 58.4f, 0.611f, 212, 0.458f, 19.8f};
/* Of sums in int32. */
static const dense_prices neon_wide = {5, 16, 58.4f, 0.611f, 212, 0.458f, 19.8f};

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
