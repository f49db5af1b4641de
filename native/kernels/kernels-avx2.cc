// The loops for x86-64 with AVX2 and FMA.
#if defined(__x86_64__) && !defined(__clang__)
// Included before the target is set: functions of the standard library are shared by all files and must run on every CPU.
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
