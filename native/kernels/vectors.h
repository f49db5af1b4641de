// Vectors of LANES floats, 8 or 16, as many as fit in a register. The code that uses them is compiled once for each instruction
// set (kernels.cc, kernels-avx2.cc, kernels-avx512.cc), and is private to the including file, so that the linker keeps the
// versions apart.
#pragma once

#include <cstdint>
#include <cstring>

namespace {

constexpr int64_t kLanes = LANES;

template <int64_t kCount>
struct Lanes {
  typedef float Floats __attribute__((vector_size(kCount * sizeof(float))));
  typedef int32_t Integers __attribute__((vector_size(kCount * sizeof(int32_t))));
};
typedef Lanes<kLanes>::Floats Vector;
typedef Lanes<kLanes>::Integers Integers;

#define INLINE inline __attribute__((always_inline))

// Loads from and stores to unaligned addresses, in one instruction each.
template <typename V = Vector>
INLINE V load(const float* from) {
  V value;
  std::memcpy(&value, from, sizeof value);
  return value;
}
template <typename V>
INLINE void store(float* to, const V& value) {
  std::memcpy(to, &value, sizeof value);
}
INLINE Vector splat(float x) { return x - Vector{}; }

// Returns e^x for x ≤ 0 within 1 ulp: 2^n e^r with |r| ≤ ln 2 / 2, and e^r by its series (the next term is 5e-9). NaN stays NaN.
INLINE Vector exponential(const Vector& input) {
  // 0 where e^x is not a normal number.
  const Integers isTiny = input < splat(-87.0f);
  const Vector x = isTiny ? splat(-87.0f) : input;
  // The sum is rounded to an integer in its last bits.
  const float rounder = 12582912.0f;
  const Vector shifted = x * 1.44269504f + rounder;
  const Vector n = shifted - rounder;
  // ln 2 in two parts; the first one is exact in few bits.
  const Vector r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  Vector series = splat(1.0f / 5040);
  constexpr float coefficients[] = {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f};
#pragma GCC unroll 7
  for (const float coefficient : coefficients) series = series * r + coefficient;
  Integers power;
  std::memcpy(&power, &shifted, sizeof power);
  power = (power << 23) + (127 << 23);
  Vector scale;
  std::memcpy(&scale, &power, sizeof scale);
  return isTiny ? Vector{} : series * scale;
}

}  // namespace
