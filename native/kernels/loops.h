// All loops, for the instruction set that whoever includes this compiles for. LANES: floats of a register. PANELS: how many
// panels a block of a product takes, so that its sums fill most registers.
#include "kernels/attention-loops.h"
#include "kernels/geglu-loops.h"

namespace {

constexpr Kernels kKernels = {inBlocks<AttentionForward, forwardRows>, inBlocks<AttentionBackward, backwardRows>, geglu,
                              gegluBackward};

}  // namespace
