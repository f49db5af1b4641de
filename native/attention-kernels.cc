// Attention's loops for every processor, and the choice among them.
// Vectors are passed between inlined functions alone, whatever registers there are.
#pragma GCC diagnostic ignored "-Wpsabi"
#define LANES 8
#define PANELS 1
#include "attention-kernels-impl.h"

#include <cstdlib>
#include <cstring>

#if defined(__x86_64__) && !defined(__clang__)
extern const AttentionKernels attentionKernelsAvx2, attentionKernelsAvx512;

const AttentionKernels& attentionKernels() {
  static const AttentionKernels& chosen = [&]() -> const AttentionKernels& {
    // The variable is LibTorch's, and means the same there: the best instructions that may be used.
    const char* most = std::getenv("ATEN_CPU_CAPABILITY");
    const auto isMost = [&](const char* name) { return most != nullptr && std::strcmp(most, name) == 0; };
    const bool hasAvx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool hasAvx512 = hasAvx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
    if (isMost("default") || !hasAvx2) return kKernels;
    return isMost("avx2") || !hasAvx512 ? attentionKernelsAvx2 : attentionKernelsAvx512;
  }();
  return chosen;
}
#else
const AttentionKernels& attentionKernels() { return kKernels; }
#endif
