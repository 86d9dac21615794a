/* Which kernels this processor runs. */
#include <string.h>

#include "crew.h"
#include "spike_conv.h"

#if defined __x86_64__ && !defined ESV_PORTABLE
static int runs_avx512(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vbmi2");
}

static int runs_avx2(void)
{
    return __builtin_cpu_supports("avx2");
}
#endif

static int always(void)
{
    return 1;
}

/* Best first. */
static const struct {
    const esv_spike_variant *variant;
    int (*runs)(void);
} variants[] = {
#if defined ESV_PORTABLE
#elif defined __x86_64__
    {&esv_spike_avx512, runs_avx512},
    {&esv_spike_avx2, runs_avx2},
#elif defined __aarch64__
    {&esv_spike_neon, always},
#endif
    {&esv_spike_scalar, always},
};

const esv_spike_variant *crew_kernels(const char *name)
{
    for (uint32_t i = 0; i < sizeof variants / sizeof *variants; i++) {
        if ((!name || !strcmp(name, variants[i].variant->name)) && variants[i].runs()) {
            return variants[i].variant;
        }
    }
    return NULL;
}

const char *crew_kernel_name(uint32_t index)
{
    for (uint32_t i = 0; i < sizeof variants / sizeof *variants; i++) {
        if (variants[i].runs() && index-- == 0) {
            return variants[i].variant->name;
        }
    }
    return NULL;
}
