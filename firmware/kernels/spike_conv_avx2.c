#include "spike_conv.h"
const esv_spike_variant esv_spike_avx2 = {.name="avx2"};
