// The loops for x86-64 with AVX2 and FMA.
#if defined(__x86_64__) && !defined(__clang__)
#pragma GCC target("avx2,fma")
#define LANES 8
#define PANELS 1
#include "loops.h"

extern const Kernels kernelsAvx2;
const Kernels kernelsAvx2 = kKernels;
#endif
