// The loops for x86-64 with AVX2 and FMA.
#if defined(__x86_64__) && !defined(__clang__)
// Before the target: what the standard library defines is shared by all files, and must run on every processor.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#pragma GCC target("avx2,fma")
#define LANES 8
#define PANELS 1
#include "kernels/loops.h"

extern const Kernels kernelsAvx2;
const Kernels kernelsAvx2 = kKernels;
#endif
