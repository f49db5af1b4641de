// The two passes. In C++, because JavaScript takes ten times as long, and every image of an epoch is resampled.
#include "images/resample.h"
#include "images/resample-avx2.h"

#include <algorithm>
#include <vector>

namespace resampling {

namespace {

inline uint8_t clip(int32_t sum) { return static_cast<uint8_t>(std::clamp(sum >> kPrecisionBits, 0, 255)); }

// Resamples the pixels of a row from `x` on.
FOR_EACH_CPU
void resampleRow(const uint8_t* row, const Coefficients& columns, size_t x, uint8_t* out) {
  for (; x < columns.outputs; x++) {
    const uint8_t* pixel = row + 3 * static_cast<size_t>(columns.first[x]);
    const int32_t* weights = columns.weights + x * columns.taps;
    int32_t red = kHalf, green = kHalf, blue = kHalf;
    for (int32_t k = 0; k < columns.count[x]; k++, pixel += 3) {
      red += pixel[0] * weights[k];
      green += pixel[1] * weights[k];
      blue += pixel[2] * weights[k];
    }
    out[3 * x] = clip(red);
    out[3 * x + 1] = clip(green);
    out[3 * x + 2] = clip(blue);
  }
}

// Computes the bytes of a row from `x` on from `count` adjacent rows of `stride` bytes.
FOR_EACH_CPU
void mixRows(const uint8_t* rows, size_t stride, const int32_t* weights, int32_t count, size_t x, uint8_t* out) {
  for (; x < stride; x++) {
    int32_t sum = kHalf;
    for (int32_t k = 0; k < count; k++) sum += rows[static_cast<size_t>(k) * stride + x] * weights[k];
    out[x] = clip(sum);
  }
}

}  // namespace

void resample(const uint8_t* rgb, size_t width, const Coefficients& columns, const Coefficients& rows, uint8_t* out) {
  const size_t stride = 3 * columns.outputs;
  if (rows.outputs * stride == 0) return;
  // Only the rows that the second pass reads need the first pass.
  const auto begin = static_cast<size_t>(*std::min_element(rows.first, rows.first + rows.outputs));
  size_t end = begin;
  for (size_t y = 0; y < rows.outputs; y++) end = std::max(end, static_cast<size_t>(rows.first[y] + rows.count[y]));
  thread_local std::vector<uint8_t> narrow;
  narrow.resize((end - begin) * stride);
  const uint8_t* const source = rgb + begin * width * 3;
  size_t y = 0;
#if HAS_AVX2_CODE
  const PairedWeights columnWeights(columns), rowWeights(rows);
  if (hasAvx2())
    for (; y + 2 <= end - begin; y += 2) {
      const size_t done = resampleRowsAvx2(source + y * width * 3, width, columns, columnWeights, narrow.data() + y * stride);
      for (size_t row = y; row < y + 2; row++) resampleRow(source + row * width * 3, columns, done, narrow.data() + row * stride);
    }
#endif
  for (; y < end - begin; y++) resampleRow(source + y * width * 3, columns, 0, narrow.data() + y * stride);

  for (y = 0; y < rows.outputs; y++) {
    const uint8_t* from = narrow.data() + (static_cast<size_t>(rows.first[y]) - begin) * stride;
    size_t done = 0;
#if HAS_AVX2_CODE
    if (hasAvx2()) done = mixRowsAvx2(from, stride, rowWeights, y, out + y * stride);
#endif
    mixRows(from, stride, rows.weights + y * rows.taps, rows.count[y], done, out + y * stride);
  }
}

}  // namespace resampling
