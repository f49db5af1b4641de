// The loops for every processor, and the choice among them.
// Vectors are passed only between inlined functions, so the calling convention for them does not matter.
#pragma GCC diagnostic ignored "-Wpsabi"
#define LANES 8
#define PANELS 1
#include "kernels/loops.h"

#include <cstdlib>
#include <cstring>

#if defined(__x86_64__) && !defined(__clang__)
extern const Kernels kernelsAvx2, kernelsAvx512;

const Kernels& kernels() {
  static const Kernels& chosen = [&]() -> const Kernels& {
    // ATEN_CPU_CAPABILITY is LibTorch's variable and has the same meaning: the best instruction set that may be used.
    const char* most = std::getenv("ATEN_CPU_CAPABILITY");
    const auto isMost = [&](const char* name) { return most != nullptr && std::strcmp(most, name) == 0; };
    const bool hasAvx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool hasAvx512 = hasAvx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
    if (isMost("default") || !hasAvx2) return kKernels;
    return isMost("avx2") || !hasAvx512 ? kernelsAvx2 : kernelsAvx512;
  }();
  return chosen;
}
#else
const Kernels& kernels() { return kKernels; }
#endif
