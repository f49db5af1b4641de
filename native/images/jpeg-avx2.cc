// The loops of the JPEG decoder that GCC does not vectorize well, for AVX2. Their results are those of jpeg-dct.cc and jpeg.cc.
#include "images/jpeg-avx2.h"

#if HAS_AVX2_CODE
#include <cstring>

namespace jpeg {

namespace {

#define INLINE_AVX2 WITH_AVX2 inline __attribute__((always_inline))

// Two rows side by side in the lanes of a pair: column i has a[i] and b[i] as one 32-bit word.
INLINE_AVX2 __m256i paired(__m128i a, __m128i b) {
  return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_unpacklo_epi16(a, b)), _mm_unpackhi_epi16(a, b), 1);
}

INLINE_AVX2 __m256i weighted(__m256i pairs, int first, int second) {
  return _mm256_madd_epi16(pairs, _mm256_set1_epi32(static_cast<int>(static_cast<uint32_t>(second) << 16 | (first & 0xFFFF))));
}

template <int kShift>
INLINE_AVX2 void descaled(__m256i upper, __m256i lower, __m128i& a, __m128i& b) {
  const __m256i half = _mm256_set1_epi32(1 << (kShift - 1));
  upper = _mm256_srai_epi32(_mm256_add_epi32(upper, half), kShift);
  lower = _mm256_srai_epi32(_mm256_add_epi32(lower, half), kShift);
  const __m256i both = _mm256_permute4x64_epi64(_mm256_packs_epi32(upper, lower), 0xD8);
  a = _mm256_castsi256_si128(both);
  b = _mm256_extracti128_si256(both, 1);
}

// The columns' inverse DCT. The factors are the sums of those in jpeg-dct.cc that a coefficient has on its ways to a result.
template <int kShift>
INLINE_AVX2 void transform(__m128i (&r)[8]) {
  const __m256i p04 = paired(r[0], r[4]), p26 = paired(r[2], r[6]), p75 = paired(r[7], r[5]), p31 = paired(r[3], r[1]);
  const __m256i e0 = weighted(p04, 8192, 8192), e1 = weighted(p04, 8192, -8192);
  const __m256i e2 = weighted(p26, 4433, -10704), e3 = weighted(p26, 10703, 4433);
  const __m256i t10 = _mm256_add_epi32(e0, e3), t13 = _mm256_sub_epi32(e0, e3);
  const __m256i t11 = _mm256_add_epi32(e1, e2), t12 = _mm256_sub_epi32(e1, e2);
  const __m256i t0 = _mm256_add_epi32(weighted(p75, -11363, 9633), weighted(p31, -6436, 2260));
  const __m256i t1 = _mm256_add_epi32(weighted(p75, 9633, 2261), weighted(p31, -11362, 6437));
  const __m256i t2 = _mm256_add_epi32(weighted(p75, -6436, -11362), weighted(p31, -2259, 9633));
  const __m256i t3 = _mm256_add_epi32(weighted(p75, 2260, 6437), weighted(p31, 9633, 11363));
  descaled<kShift>(_mm256_add_epi32(t10, t3), _mm256_sub_epi32(t10, t3), r[0], r[7]);
  descaled<kShift>(_mm256_add_epi32(t11, t2), _mm256_sub_epi32(t11, t2), r[1], r[6]);
  descaled<kShift>(_mm256_add_epi32(t12, t1), _mm256_sub_epi32(t12, t1), r[2], r[5]);
  descaled<kShift>(_mm256_add_epi32(t13, t0), _mm256_sub_epi32(t13, t0), r[3], r[4]);
}

INLINE_AVX2 void transpose(__m128i (&a)[8]) {
  __m128i b[8];
  for (int i = 0; i < 4; i++) {
    b[2 * i] = _mm_unpacklo_epi16(a[i], a[i + 4]);
    b[2 * i + 1] = _mm_unpackhi_epi16(a[i], a[i + 4]);
  }
  for (int i = 0; i < 4; i++) {
    a[2 * i] = _mm_unpacklo_epi16(b[i], b[i + 4]);
    a[2 * i + 1] = _mm_unpackhi_epi16(b[i], b[i + 4]);
  }
  for (int i = 0; i < 4; i++) {
    b[2 * i] = _mm_unpacklo_epi16(a[i], a[i + 4]);
    b[2 * i + 1] = _mm_unpackhi_epi16(a[i], a[i + 4]);
  }
  for (int i = 0; i < 8; i++) a[i] = b[i];
}

}  // namespace

WITH_AVX2 void inverseDctAvx2(const int16_t* coefficients, uint8_t* out, size_t stride) {
  __m128i r[8];
  for (int i = 0; i < 8; i++) r[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(coefficients) + i);
  transform<11>(r);
  transpose(r);
  transform<18>(r);
  transpose(r);
  // To bytes: signed ones around zero, which saturate, and then the sign bit is inverted.
  const __m128i middle = _mm_set1_epi8(-128);
  for (int i = 0; i < 8; i += 2) {
    const __m128i bytes = _mm_xor_si128(_mm_packs_epi16(r[i], r[i + 1]), middle);
    _mm_storel_epi64(reinterpret_cast<__m128i*>(out + static_cast<size_t>(i) * stride), bytes);
    _mm_storeh_pd(reinterpret_cast<double*>(out + static_cast<size_t>(i + 1) * stride), _mm_castsi128_pd(bytes));
  }
}

namespace {

// (first · blue + second · red) / 2¹⁶, rounded, of 16 pixels.
INLINE_AVX2 __m256i mixed(__m256i low, __m256i high, int first, int second) {
  const __m256i half = _mm256_set1_epi32(1 << 15);
  return _mm256_packs_epi32(_mm256_srai_epi32(_mm256_add_epi32(weighted(low, first, second), half), 16),
                            _mm256_srai_epi32(_mm256_add_epi32(weighted(high, first, second), half), 16));
}

INLINE_AVX2 __m256i toWords(const uint8_t* bytes) {
  return _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes)));
}

INLINE_AVX2 __m128i toBytes(__m256i words) {
  return _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}

}  // namespace

WITH_AVX2 size_t toRgbAvx2(const uint8_t* luma, const uint8_t* blue, const uint8_t* red, size_t width, uint8_t* out) {
  // By the third of the result, and the channel: where each byte comes from; -1 is another channel's.
  alignas(16) int8_t from[3][3][16];
  for (int third = 0; third < 3; third++)
    for (int channel = 0; channel < 3; channel++)
      for (int i = 0; i < 16; i++) {
        const int at = 16 * third + i;
        from[third][channel][i] = static_cast<int8_t>(at % 3 == channel ? at / 3 : -1);
      }
  const __m256i middle = _mm256_set1_epi16(128);
  size_t x = 0;
  for (; x + 16 <= width; x += 16) {
    const __m256i y = toWords(luma + x);
    const __m256i cb = _mm256_sub_epi16(toWords(blue + x), middle), cr = _mm256_sub_epi16(toWords(red + x), middle);
    const __m256i low = _mm256_unpacklo_epi16(cb, cr), high = _mm256_unpackhi_epi16(cb, cr);
    // 91881 = 65536 + 26345, 46802 = 65536 − 18734, 116130 = 2 · 65536 − 14942: what is left fits in 16 bits.
    const __m256i r = _mm256_add_epi16(_mm256_add_epi16(y, cr), mixed(low, high, 0, 26345));
    const __m256i g = _mm256_add_epi16(_mm256_sub_epi16(y, cr), mixed(low, high, -22554, 18734));
    const __m256i b = _mm256_add_epi16(_mm256_add_epi16(y, _mm256_add_epi16(cb, cb)), mixed(low, high, -14942, 0));
    const __m128i channels[3] = {toBytes(r), toBytes(g), toBytes(b)};
    for (int third = 0; third < 3; third++) {
      __m128i bytes = _mm_setzero_si128();
      for (int channel = 0; channel < 3; channel++)
        bytes = _mm_or_si128(bytes, _mm_shuffle_epi8(channels[channel], _mm_load_si128(reinterpret_cast<const __m128i*>(from[third][channel]))));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 3 * x + 16 * third), bytes);
    }
  }
  return x;
}

}  // namespace jpeg
#endif
