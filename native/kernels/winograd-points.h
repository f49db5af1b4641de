// The transforms of Winograd's F(2 × 2, 3 × 3) and F(4 × 4, 3 × 3) (Lavin & Gray, arXiv 1509.09308) in one dimension, and what
// takes vectors of pixels apart and together.
#pragma once

#include "kernels/vectors.h"

namespace {

typedef Lanes<8>::Floats Eight;

#ifdef __clang__
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, decltype(a == b){__VA_ARGS__})
#endif

// A tile has kResults × kResults results, of kEdge × kEdge pixels, which are transformed into as many points. The three functions
// transform three weights, a row of pixels, and the points of a row into its results.
struct F2 {
  static constexpr int kResults = 2, kEdge = 4;

  // g0, (g0 + g1 + g2) / 2, (g0 - g1 + g2) / 2, g2
  static INLINE void weights(const Eight& g0, const Eight& g1, const Eight& g2, Eight to[kEdge]) {
    const Eight outer = (g0 + g2) * 0.5f, inner = g1 * 0.5f;
    to[0] = g0;
    to[1] = outer + inner;
    to[2] = outer - inner;
    to[3] = g2;
  }

  template <typename V>
  static INLINE void pixels(const V d[kEdge], V to[kEdge]) {
    to[0] = d[0] - d[2];
    to[1] = d[1] + d[2];
    to[2] = d[2] - d[1];
    to[3] = d[1] - d[3];
  }

  static INLINE void results(const Vector m[kEdge], Vector to[kResults]) {
    to[0] = m[0] + m[1] + m[2];
    to[1] = m[1] - m[2] - m[3];
  }
};

// With the points 0, ± 1 / √2, ± √2 and ∞: with the usual 0, ± 1, ± 2 and ∞, sums of many channels have four times the error.
struct F4 {
  static constexpr int kResults = 4, kEdge = 6;
  static constexpr float kNear = 0.70710678f, kFar = 2 * kNear;

  static INLINE void weights(const Eight& g0, const Eight& g1, const Eight& g2, Eight to[kEdge]) {
    const Eight nearOuter = (g0 + g2 * 0.5f) * (-2 / 3.0f), nearInner = g1 * (-2 / 3.0f * kNear);
    const Eight farOuter = (g0 + g2 * 2.0f) * (1 / 6.0f), farInner = g1 * (1 / 6.0f * kFar);
    to[0] = g0;
    to[1] = nearOuter + nearInner;
    to[2] = nearOuter - nearInner;
    to[3] = farOuter + farInner;
    to[4] = farOuter - farInner;
    to[5] = g2;
  }

  template <typename V>
  static INLINE void pixels(const V d[kEdge], V to[kEdge]) {
    const V nearEven = d[4] - d[2] * 2.0f, nearOdd = (d[3] - d[1] * 2.0f) * kNear;
    const V farEven = d[4] - d[2] * 0.5f, farOdd = (d[3] - d[1] * 0.5f) * kFar;
    to[0] = d[0] + (d[4] - d[2] * 2.5f);
    to[1] = nearEven + nearOdd;
    to[2] = nearEven - nearOdd;
    to[3] = farEven + farOdd;
    to[4] = farEven - farOdd;
    to[5] = d[1] + (d[5] - d[3] * 2.5f);
  }

  static INLINE void results(const Vector m[kEdge], Vector to[kResults]) {
    const Vector nearEven = m[1] + m[2], nearOdd = (m[1] - m[2]) * kNear;
    const Vector farEven = m[3] + m[4], farOdd = (m[3] - m[4]) * kFar;
    to[0] = m[0] + (nearEven + farEven);
    to[1] = nearOdd + farOdd;
    to[2] = nearEven * 0.5f + farEven * 2.0f;
    to[3] = m[5] + (nearOdd * 0.5f + farOdd * 2.0f);
  }
};

struct Pair {
  Vector first, second;
};

// (a0 b0 a1 b1 …) of two vectors -> (a0 a1 …), (b0 b1 …)
INLINE Pair separate(const Vector& x, const Vector& y) {
#if LANES == 8
  return {SHUFFLE(x, y, 0, 2, 4, 6, 8, 10, 12, 14), SHUFFLE(x, y, 1, 3, 5, 7, 9, 11, 13, 15)};
#else
  return {SHUFFLE(x, y, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30),
          SHUFFLE(x, y, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31)};
#endif
}

INLINE Pair interleave(const Vector& x, const Vector& y) {
#if LANES == 8
  return {SHUFFLE(x, y, 0, 8, 1, 9, 2, 10, 3, 11), SHUFFLE(x, y, 4, 12, 5, 13, 6, 14, 7, 15)};
#else
  return {SHUFFLE(x, y, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23),
          SHUFFLE(x, y, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)};
#endif
}

INLINE void transpose(Eight x[8]) {
  Eight y[8], z[8];
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {
    y[2 * i] = SHUFFLE(x[2 * i], x[2 * i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
    y[2 * i + 1] = SHUFFLE(x[2 * i], x[2 * i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4)
#pragma GCC unroll 2
    for (int j = 0; j < 2; j++) {
      z[i + 2 * j] = SHUFFLE(y[i + j], y[i + j + 2], 0, 1, 8, 9, 4, 5, 12, 13);
      z[i + 2 * j + 1] = SHUFFLE(y[i + j], y[i + j + 2], 2, 3, 10, 11, 6, 7, 14, 15);
    }
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {
    x[i] = SHUFFLE(z[i], z[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    x[i + 4] = SHUFFLE(z[i], z[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
  }
}

// Takes pixels apart, by their column in a tile of kCount columns: -> to[column][tiles]
template <int kCount>
INLINE void separateColumns(const float* line, Vector* to) {
  const auto [even, odd] = separate(load(line), load(line + kLanes));
  if constexpr (kCount == 2) {
    to[0] = even;
    to[1] = odd;
  } else {
    const auto [nextEven, nextOdd] = separate(load(line + 2 * kLanes), load(line + 3 * kLanes));
    const auto [a, c] = separate(even, nextEven);
    const auto [b, d] = separate(odd, nextOdd);
    to[0] = a;
    to[1] = b;
    to[2] = c;
    to[3] = d;
  }
}

// The reverse.
template <int kCount>
INLINE void storeColumns(const Vector* x, float* line) {
  if constexpr (kCount == 2) {
    const auto [first, second] = interleave(x[0], x[1]);
    store(line, first);
    store(line + kLanes, second);
  } else {
    const auto [even, nextEven] = interleave(x[0], x[2]);
    const auto [odd, nextOdd] = interleave(x[1], x[3]);
    const Vector columns[4] = {even, odd, nextEven, nextOdd};
    storeColumns<2>(columns, line);
    storeColumns<2>(columns + 2, line + 2 * kLanes);
  }
}

}  // namespace
