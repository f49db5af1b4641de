// Code for several kinds of CPU in one file.
#pragma once

// FOR_EACH_CPU before a function: the compiler creates a version for each kind of CPU, with vectorized loops, and one is chosen
// when the addon is loaded. WITH_AVX2 before a function: it may use intrinsics of AVX2, and is called only where hasAvx2().
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#include <immintrin.h>
#define HAS_AVX2_CODE 1
#define FOR_EACH_CPU __attribute__((target_clones("avx2", "default"), optimize("O3")))
#define WITH_AVX2 __attribute__((target("avx2,bmi2")))

inline bool hasAvx2() {
  static const bool has = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2");
  return has;
}
#else
#define HAS_AVX2_CODE 0
#define FOR_EACH_CPU
#endif
