// Computes a · gelu(b) and its gradients, each in one pass.
#include "kernels/kernels.h"
#include "kernels/vectors.h"

#include <algorithm>

namespace {

// The standard normal distribution.
struct Normal {
  Vector density, cumulative;
};

// Φ(-t) = e^(-t²/2) r(t) for t ≥ 0. r is so smooth that a polynomial of u = 1 / (1 + 0.26 t), fitted for this purpose,
// approximates it with a relative error of 3e-8 for t ≤ 14 (the substitution is from Abramowitz & Stegun 7.1.26). There is no
// difference of similar numbers, so small results are as accurate as large ones.
INLINE Normal normal(const Vector& x) {
  const Vector t = x < Vector{} ? -x : x;
  const Vector e = exponential(t * t * -0.5f);
  const Vector u = 1 / (t * 0.26f + 1);
  Vector series = splat(0.03050541834305963f);
  constexpr float coefficients[] = {-0.15283128634788773f, 0.2514961007260754f,  -0.15095415075882984f, 0.1609512205243356f,
                                    0.05102633995667609f,  0.10303057456673145f, 0.10301670848925687f,  0.10375906213627029f};
#pragma GCC unroll 8
  for (const float coefficient : coefficients) series = series * u + coefficient;
  const Vector tail = e * u * series;
  return {e * 0.398942280f, x < Vector{} ? tail : 1 - tail};
}

// Calls body(i, count) for each vector of a row. The last vector may be shorter.
template <typename Body>
INLINE void forEachVector(int64_t width, Body body) {
  for (int64_t i = 0; i < width; i += kLanes) body(i, std::min(kLanes, width - i));
}

INLINE Vector loadPart(const float* from, int64_t count) {
  if (count == kLanes) return load(from);
  Vector value{};
  std::memcpy(&value, from, count * sizeof(float));
  return value;
}

INLINE void storePart(float* to, const Vector& value, int64_t count) {
  if (count == kLanes)
    store(to, value);
  else
    std::memcpy(to, &value, count * sizeof(float));
}

void geglu(const float* x, float* out, int64_t rows, int64_t width) {
  for (int64_t row = 0; row < rows; row++, x += 2 * width, out += width)
    forEachVector(width, [&](int64_t i, int64_t count) {
      const Vector value = loadPart(x + i, count), gate = loadPart(x + width + i, count);
      storePart(out + i, value * gate * normal(gate).cumulative, count);
    });
}

void gegluBackward(const float* x, const float* gradOut, float* gradX, int64_t rows, int64_t width) {
  for (int64_t row = 0; row < rows; row++, x += 2 * width, gradX += 2 * width, gradOut += width)
    forEachVector(width, [&](int64_t i, int64_t count) {
      const Vector value = loadPart(x + i, count), gate = loadPart(x + width + i, count);
      const Vector grad = loadPart(gradOut + i, count);
      const Normal at = normal(gate);
      storePart(gradX + i, grad * gate * at.cumulative, count);
      storePart(gradX + width + i, grad * value * (at.cumulative + gate * at.density), count);
    });
}

}  // namespace
