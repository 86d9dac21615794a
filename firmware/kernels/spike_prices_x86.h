/* By benchmarks/roads.py: nanoseconds on one core of an AMD EPYC with AVX-512 VNNI. */
static const lists_prices avx2_lists[] = {
    [SPIKES] = {61.8f, 10.6f, 0, 1.25f, 0.151f, 1.67f, 11.5f},
    [SPIKES_IN_LINES] = {0, 37.6f, 4.06f, 0.711f, 0.0849f, 2.36f, 7.86f},
    [LEVELS] = {76.2f, 14, 0.0357f, 1.43f, 0.0735f, 2.29f, 12.5f},
    [LEVELS_IN_LINES] = {0, 70.3f, 7.1f, 0.62f, 0.153f, 1.99f, 10.5f},
    [LEVELS_OF_STEPS] = {72.1f, 20, 0.295f, 2.7f, 0.0987f, 1.52f, 9.87f},
};
static const lists_prices avx512_lists[] = {
    [SPIKES] = {21.8f, 9.09f, 0.0359f, 0.678f, 0.115f, 1.29f, 9.95f},
    [SPIKES_IN_LINES] = {0, 42.5f, 3.24f, 0.633f, 0.069f, 0.922f, 5.34f},
    [LEVELS] = {67, 18.3f, 0.0152f, 1.2f, 0.084f, 0.689f, 11.5f},
    [LEVELS_IN_LINES] = {0, 69.9f, 5.34f, 0.827f, 0.0831f, 2.63f, 7.1f},
    [LEVELS_OF_STEPS] = {19.5f, 28.4f, 0.352f, 1.43f, 0.0693f, 1.24f, 8.96f},
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
