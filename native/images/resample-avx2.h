// The two passes with AVX2. A product of a byte and a weight of 24 bits is split into two of 16 bits, of which one instruction
// makes and adds sixteen: weight = high · 2¹¹ + low. The sums are exact, and so equal to those of resample.cc.
#pragma once

#include <vector>

#include "images/resample.h"
#include "kernels/for-each-cpu.h"

namespace resampling {

#if HAS_AVX2_CODE
// For each output, the halves of its weights by twos: high 0, high 1, low 0, low 1, high 2, …; zeros after the last.
struct PairedWeights {
  explicit PairedWeights(const Coefficients& coefficients);
  std::vector<int16_t> values;
  // Pairs of each output, with those of zeros at the end.
  size_t stride;
  // The number of taps of each output.
  const int32_t* counts;
};

// Resamples two adjacent rows of `width` pixels to adjacent rows. Returns the number of pixels that are done in both.
size_t resampleRowsAvx2(const uint8_t* rows, size_t width, const Coefficients& columns, const PairedWeights& weights,
                        uint8_t* out);

// Computes the first bytes of output `y` from adjacent rows of `stride` bytes. Returns their number.
size_t mixRowsAvx2(const uint8_t* rows, size_t stride, const PairedWeights& weights, size_t y, uint8_t* out);
#endif

}  // namespace resampling
