/* By benchmarks/roads.py: nanoseconds on one core of an AMD EPYC with AVX-512 VNNI. */
static const lists_prices avx2_lists[] = {
    [SPIKES] = {3.98f, 35.2f, 0.0888f, 1.58f, 0.106f, 1.78f, 13.1f},
    [SPIKES_IN_LINES] = {3.22f, 35.8f, 4.68f, 0.672f, 0.101f, 2.37f, 8.05f},
    [LEVELS] = {82.1f, 10.7f, 0.11f, 1.77f, 0.0429f, 2.93f, 13.8f},
    [LEVELS_IN_LINES] = {0, 65.2f, 11, 0.67f, 0.116f, 1.97f, 13.2f},
    [LEVELS_OF_STEPS] = {48.4f, 44.7f, 0.323f, 3.14f, 0.0553f, 1.54f, 10.2f},
};
static const lists_prices avx512_lists[] = {
    [SPIKES] = {3.23f, 20.8f, 0.089f, 0.56f, 0.118f, 0.985f, 10.3f},
    [SPIKES_IN_LINES] = {5.66f, 33.5f, 1.86f, 0.666f, 0.0656f, 1.68f, 5.13f},
    [LEVELS] = {77.8f, 14.5f, 0.0175f, 1.14f, 0.0802f, 0.624f, 12.3f},
    [LEVELS_IN_LINES] = {0, 69.5f, 7.02f, 0.835f, 0.0815f, 2.79f, 10.1f},
    [LEVELS_OF_STEPS] = {17.1f, 36.9f, 0.384f, 1.31f, 0.064f, 1.25f, 9.43f},
};
static const dense_prices x86_words = {0.218f, 16, 2.42f, 0.0366f, 20.3f, 0.0379f, 8.04f};
static const dense_prices x86_bytes = {0.0933f, 16, 2.32f, 0.0434f, 29.5f, 0.0267f, 7.65f};

static const lists_prices *lists_prices_of(const esv_spike_variant *k)
{
    return k->multiplies_bytes ? avx512_lists : avx2_lists;
}

static const dense_prices *dense_prices_of(const esv_spike_variant *k, int narrow,
                                           uint32_t max_level)
{
    (void)narrow, (void)max_level;
    return esv_dense_has_bytes(k) ? &x86_bytes : &x86_words;
}

/* No variant has any. */
static const masks_prices *masks_prices_of(const esv_spike_variant *k)
{
    (void)k;
    static const masks_prices none;
    return &none;
}
