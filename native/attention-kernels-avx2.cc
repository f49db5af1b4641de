// Attention's loops for x86-64 with AVX2 and FMA.
#if defined(__x86_64__) && !defined(__clang__)
#pragma GCC target("avx2,fma")
#define LANES 8
#define PANELS 1
#include "attention-kernels-impl.h"

extern const AttentionKernels attentionKernelsAvx2;
const AttentionKernels attentionKernelsAvx2 = kKernels;
#endif
