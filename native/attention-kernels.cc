// Attention's loops for every processor, and the choice among them.
// Vectors are passed between inlined functions alone, whatever registers there are.
#pragma GCC diagnostic ignored "-Wpsabi"
#include "attention-kernels-impl.h"

#include <cstdlib>
#include <cstring>

#if defined(__x86_64__) && !defined(__clang__)
extern const AttentionKernels attentionKernelsAvx2;

const AttentionKernels& attentionKernels() {
  // The variable is LibTorch's, and "default" means the same there: no vector instructions beyond the least.
  static const char* wanted = std::getenv("ATEN_CPU_CAPABILITY");
  static const bool isPlain = wanted != nullptr && std::strcmp(wanted, "default") == 0;
  static const bool hasAvx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  return hasAvx2 && !isPlain ? attentionKernelsAvx2 : kKernels;
}
#else
const AttentionKernels& attentionKernels() { return kKernels; }
#endif
