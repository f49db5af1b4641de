// Includes all loops, compiled for the instruction set of the including file. LANES: floats in a register. PANELS: panels in a
// block of a product, chosen so that its sums fill most registers.
#include "kernels/attention-loops.h"
#include "kernels/geglu-loops.h"
#include "kernels/winograd-loops.h"

namespace {

constexpr Kernels kKernels = {inBlocks<AttentionForward, forwardRows>,
                              inBlocks<AttentionBackward, backwardRows>,
                              geglu,
                              gegluBackward,
                              kWinograd<F2>,
                              kWinograd<F4>};

}  // namespace
