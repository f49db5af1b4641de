#include "images/resample-avx2.h"

#if HAS_AVX2_CODE
#include <algorithm>
#include <cstring>

namespace resampling {

namespace {

constexpr int kLowBits = 11;

#define INLINE_AVX2 WITH_AVX2 inline __attribute__((always_inline))

// Both numbers of a pair in all lanes.
INLINE_AVX2 __m256i everywhere(const int16_t* pair) {
  int32_t bits;
  std::memcpy(&bits, pair, sizeof bits);
  return _mm256_set1_epi32(bits);
}

struct Sums {
  __m256i high, low;
};

INLINE_AVX2 void add(Sums& sums, __m256i pairs, const int16_t* weights) {
  sums.high = _mm256_add_epi32(sums.high, _mm256_madd_epi16(pairs, everywhere(weights)));
  sums.low = _mm256_add_epi32(sums.low, _mm256_madd_epi16(pairs, everywhere(weights + 2)));
}

// Sums to numbers that saturate to bytes.
INLINE_AVX2 __m256i rounded(const Sums& sums) {
  const __m256i sum = _mm256_add_epi32(_mm256_slli_epi32(sums.high, kLowBits), sums.low);
  return _mm256_srai_epi32(_mm256_add_epi32(sum, _mm256_set1_epi32(kHalf)), kPrecisionBits);
}

}  // namespace

PairedWeights::PairedWeights(const Coefficients& coefficients)
    : stride((coefficients.taps + 1) / 2), counts(coefficients.count) {
  values.assign(coefficients.outputs * stride * 4, 0);
  for (size_t i = 0; i < coefficients.outputs; i++)
    for (size_t k = 0; k < static_cast<size_t>(coefficients.count[i]); k++) {
      const int32_t weight = coefficients.weights[i * coefficients.taps + k];
      int16_t* pair = values.data() + 4 * (i * stride + k / 2) + k % 2;
      pair[0] = static_cast<int16_t>(weight >> kLowBits);
      pair[2] = static_cast<int16_t>(weight & ((1 << kLowBits) - 1));
    }
}

WITH_AVX2 size_t resampleRowsAvx2(const uint8_t* rows, size_t width, const Coefficients& columns, const PairedWeights& weights,
                                  uint8_t* out) {
  const size_t stride = 3 * columns.outputs;
  // Two pixels to red, red, green, green, blue, blue, as words; one row in each half.
  const __m256i pick = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1));
  // The last pixel writes a byte too many, and one near the end would read past it.
  const size_t end = columns.outputs == 0 ? 0 : columns.outputs - 1;
  size_t x = 0;
  for (; x < end; x++) {
    const auto first = static_cast<size_t>(columns.first[x]);
    const auto pairs = static_cast<size_t>(weights.counts[x] + 1) / 2;
    // Eight bytes are read for the last two pixels.
    if (3 * (first + 2 * pairs) + 2 > 3 * width) break;
    const uint8_t* from = rows + 3 * first;
    const int16_t* weight = weights.values.data() + 4 * x * weights.stride;
    Sums sums{_mm256_setzero_si256(), _mm256_setzero_si256()};
    for (size_t k = 0; k < pairs; k++, from += 6, weight += 4) {
      const __m128i upper = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
      const __m128i lower = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from + 3 * width));
      add(sums, _mm256_shuffle_epi8(_mm256_inserti128_si256(_mm256_castsi128_si256(upper), lower, 1), pick), weight);
    }
    const __m256i words = rounded(sums);
    const __m256i bytes = _mm256_packus_epi16(_mm256_packs_epi32(words, words), words);
    const int upper = _mm_cvtsi128_si32(_mm256_castsi256_si128(bytes)), lower = _mm_cvtsi128_si32(_mm256_extracti128_si256(bytes, 1));
    std::memcpy(out + 3 * x, &upper, sizeof upper);
    std::memcpy(out + stride + 3 * x, &lower, sizeof lower);
  }
  return x;
}

WITH_AVX2 size_t mixRowsAvx2(const uint8_t* rows, size_t stride, const PairedWeights& weights, size_t y, uint8_t* out) {
  const int16_t* const first = weights.values.data() + 4 * y * weights.stride;
  const auto count = static_cast<size_t>(weights.counts[y]);
  // Without a second row, the first is read again: its weight is zero.
  size_t x = 0;
  for (; x + 16 <= stride; x += 16) {
    Sums left{_mm256_setzero_si256(), _mm256_setzero_si256()}, right = left;
    const int16_t* weight = first;
    for (size_t k = 0; k < count; k += 2, weight += 4) {
      const uint8_t* from = rows + k * stride + x;
      const __m128i upper = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
      const __m128i lower = k + 1 < count ? _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + stride)) : upper;
      add(left, _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(upper, lower)), weight);
      add(right, _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(upper, lower)), weight);
    }
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(rounded(left), rounded(right)), 0xD8);
    const __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + x), bytes);
  }
  return x;
}

}  // namespace resampling
#endif
