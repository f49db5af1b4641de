// Coefficients of a block to samples: libjpeg's accurate integer inverse DCT, at full and at reduced size.
#include "images/jpeg.h"
#include "images/jpeg-avx2.h"
#include "kernels/for-each-cpu.h"

#include <algorithm>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace jpeg {

namespace {

constexpr int kConstBits = 13, kPass1Bits = 2;

// The arithmetic is that of unsigned numbers, because sums of absurd coefficients overflow.
inline int32_t times(int32_t value, int32_t factor) {
  return static_cast<int32_t>(static_cast<uint32_t>(value) * static_cast<uint32_t>(factor));
}
inline int32_t plus(int32_t a, int32_t b) { return static_cast<int32_t>(static_cast<uint32_t>(a) + static_cast<uint32_t>(b)); }
inline int32_t minus(int32_t a, int32_t b) { return static_cast<int32_t>(static_cast<uint32_t>(a) - static_cast<uint32_t>(b)); }

template <int kShift>
inline int16_t descaled(int32_t value) {
  const int32_t shifted = plus(value, int32_t(1) << (kShift - 1)) >> kShift;
  return static_cast<int16_t>(std::min(std::max(shifted, -32768), 32767));
}

inline void transpose(int16_t* block) {
#if defined(__SSE2__)
  __m128i* rows = reinterpret_cast<__m128i*>(block);
  __m128i a[8], b[8];
  for (int i = 0; i < 8; i++) a[i] = _mm_loadu_si128(rows + i);
  for (int i = 0; i < 4; i++) {
    b[2 * i] = _mm_unpacklo_epi16(a[i], a[i + 4]);
    b[2 * i + 1] = _mm_unpackhi_epi16(a[i], a[i + 4]);
  }
  for (int i = 0; i < 4; i++) {
    a[2 * i] = _mm_unpacklo_epi16(b[i], b[i + 4]);
    a[2 * i + 1] = _mm_unpackhi_epi16(b[i], b[i + 4]);
  }
  for (int i = 0; i < 4; i++) {
    _mm_storeu_si128(rows + 2 * i, _mm_unpacklo_epi16(a[i], a[i + 4]));
    _mm_storeu_si128(rows + 2 * i + 1, _mm_unpackhi_epi16(a[i], a[i + 4]));
  }
#else
  for (int y = 0; y < 8; y++)
    for (int x = 0; x < y; x++) std::swap(block[8 * y + x], block[8 * x + y]);
#endif
}

// Transforms the eight columns, in jidctint.c's order of operations (Loeffler, Ligtenberg and Moschytz).
template <int kShift>
inline __attribute__((always_inline)) void transform8(int16_t* block) {
  for (int i = 0; i < 8; i++) {
    int16_t* in = block + i;
    const int32_t even = times(plus(in[16], in[48]), 4433);
    const int32_t e2 = plus(even, times(in[48], -15137)), e3 = plus(even, times(in[16], 6270));
    const int32_t e0 = times(plus(in[0], in[32]), 1 << kConstBits), e1 = times(minus(in[0], in[32]), 1 << kConstBits);
    const int32_t t10 = plus(e0, e3), t13 = minus(e0, e3), t11 = plus(e1, e2), t12 = minus(e1, e2);
    const int32_t o0 = in[56], o1 = in[40], o2 = in[24], o3 = in[8];
    const int32_t z5 = times(plus(plus(o0, o2), plus(o1, o3)), 9633);
    const int32_t z1 = times(plus(o0, o3), -7373), z2 = times(plus(o1, o2), -20995);
    const int32_t z3 = plus(times(plus(o0, o2), -16069), z5), z4 = plus(times(plus(o1, o3), -3196), z5);
    const int32_t t0 = plus(times(o0, 2446), plus(z1, z3)), t1 = plus(times(o1, 16819), plus(z2, z4));
    const int32_t t2 = plus(times(o2, 25172), plus(z2, z3)), t3 = plus(times(o3, 12299), plus(z1, z4));
    in[0] = descaled<kShift>(plus(t10, t3));
    in[56] = descaled<kShift>(minus(t10, t3));
    in[8] = descaled<kShift>(plus(t11, t2));
    in[48] = descaled<kShift>(minus(t11, t2));
    in[16] = descaled<kShift>(plus(t12, t1));
    in[40] = descaled<kShift>(minus(t12, t1));
    in[24] = descaled<kShift>(plus(t13, t0));
    in[32] = descaled<kShift>(minus(t13, t0));
  }
}

// The first four rows of the result; jidctred.c's 4 × 4.
template <int kShift>
inline __attribute__((always_inline)) void transform4(int16_t* block) {
  for (int i = 0; i < 8; i++) {
    int16_t* in = block + i;
    const int32_t e0 = times(in[0], 1 << (kConstBits + 1));
    const int32_t e2 = plus(times(in[16], 15137), times(in[48], -6270));
    const int32_t t10 = plus(e0, e2), t12 = minus(e0, e2);
    const int32_t o0 = plus(plus(times(in[56], -1730), times(in[40], 11893)), plus(times(in[24], -17799), times(in[8], 8697)));
    const int32_t o2 = plus(plus(times(in[56], -4176), times(in[40], -4926)), plus(times(in[24], 7373), times(in[8], 20995)));
    in[0] = descaled<kShift>(plus(t10, o2));
    in[24] = descaled<kShift>(minus(t10, o2));
    in[8] = descaled<kShift>(plus(t12, o0));
    in[16] = descaled<kShift>(minus(t12, o0));
  }
}

// The first two rows of the result; jidctred.c's 2 × 2.
template <int kShift>
inline __attribute__((always_inline)) void transform2(int16_t* block) {
  for (int i = 0; i < 8; i++) {
    int16_t* in = block + i;
    const int32_t even = times(in[0], 1 << (kConstBits + 2));
    const int32_t odd =
        plus(plus(times(in[56], -5906), times(in[40], 6967)), plus(times(in[24], -10426), times(in[8], 29692)));
    in[0] = descaled<kShift>(plus(even, odd));
    in[8] = descaled<kShift>(minus(even, odd));
  }
}

template <void (*pass1)(int16_t*), void (*pass2)(int16_t*), int kSide>
inline __attribute__((always_inline)) void both(const int16_t* coefficients, uint8_t* out, size_t stride) {
  alignas(32) int16_t block[64];
  std::memcpy(block, coefficients, sizeof block);
  pass1(block);
  transpose(block);
  pass2(block);
  transpose(block);
  for (int y = 0; y < kSide; y++)
    for (int x = 0; x < kSide; x++)
      out[static_cast<size_t>(y) * stride + static_cast<size_t>(x)] =
          static_cast<uint8_t>(std::min(std::max(block[8 * y + x] + 128, 0), 255));
}

constexpr int kShift1 = kConstBits - kPass1Bits, kShift2 = kConstBits + kPass1Bits + 3;

FOR_EACH_CPU
void full(const int16_t* coefficients, uint8_t* out, size_t stride) {
  both<transform8<kShift1>, transform8<kShift2>, 8>(coefficients, out, stride);
}
FOR_EACH_CPU
void half(const int16_t* coefficients, uint8_t* out, size_t stride) {
  both<transform4<kShift1 + 1>, transform4<kShift2 + 1>, 4>(coefficients, out, stride);
}
FOR_EACH_CPU
void quarter(const int16_t* coefficients, uint8_t* out, size_t stride) {
  both<transform2<kShift1 + 2>, transform2<kShift2 + 2>, 2>(coefficients, out, stride);
}

}  // namespace

void inverseDct(const int16_t* coefficients, int side, uint8_t* out, size_t stride) {
  if (side == 8) {
#if HAS_AVX2_CODE
    if (hasAvx2()) return inverseDctAvx2(coefficients, out, stride);
#endif
    full(coefficients, out, stride);
  } else if (side == 4) half(coefficients, out, stride);
  else if (side == 2) quarter(coefficients, out, stride);
  else *out = static_cast<uint8_t>(std::min(std::max(((coefficients[0] + 4) >> 3) + 128, 0), 255));
}

}  // namespace jpeg
