// Attention's loops for every processor, and the choice among them.
// Vectors are passed between inlined functions alone, whatever registers there are.
#pragma GCC diagnostic ignored "-Wpsabi"
#include "attention-kernels-impl.h"

#if defined(__x86_64__) && !defined(__clang__)
extern const AttentionKernels attentionKernelsAvx2;

const AttentionKernels& attentionKernels() {
  static const bool hasAvx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  return hasAvx2 ? attentionKernelsAvx2 : kKernels;
}
#else
const AttentionKernels& attentionKernels() { return kKernels; }
#endif
