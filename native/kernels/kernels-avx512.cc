// The loops for x86-64 with AVX-512.
#if defined(__x86_64__) && !defined(__clang__)
// Included before the target is set: functions of the standard library are shared by all files and must run on every CPU.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#pragma GCC target("avx512f,avx512vl,avx512dq,avx512bw,fma")
#define LANES 16
#define PANELS 4
#include "kernels/loops.h"

extern const Kernels kernelsAvx512;
const Kernels kernelsAvx512 = kKernels;
#endif
