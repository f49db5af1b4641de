// Pillow's resampling of RGB images, bit for bit: fixed-point sums of weighted bytes, the rows first (Pillow
// src/libImaging/Resample.c). src/images/resample.ts computes the weights.
#pragma once

#include <cstddef>
#include <cstdint>

namespace resampling {

constexpr int kPrecisionBits = 22;
constexpr int32_t kHalf = int32_t(1) << (kPrecisionBits - 1);

// For each output position: the first input position, the number of taps, and `taps` weights.
struct Coefficients {
  const int32_t *first, *count, *weights;
  size_t outputs, taps;
};

// Resamples rows of `width` pixels. `out` has rows.outputs × columns.outputs pixels.
void resample(const uint8_t* rgb, size_t width, const Coefficients& columns, const Coefficients& rows, uint8_t* out);

}  // namespace resampling
