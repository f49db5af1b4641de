// Attention by tiles of scores that stay in the second-level cache (FlashAttention-2, arXiv 2307.08691, algorithms 1
// and 2), written with vectors of the compiler's: each .cc that includes this compiles it for another instruction set.
// Everything here is private to the file that includes it, so that the linker keeps the versions apart.
#include "attention-kernels.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace {

constexpr int64_t kLanes = 8;
// A panel is one or two of them wide.
typedef float Vector __attribute__((vector_size(kLanes * sizeof(float)), aligned(4), may_alias));
typedef int32_t Integers __attribute__((vector_size(kLanes * sizeof(int32_t))));

// A tile of scores: so many queries and keys.
constexpr int64_t kQueries = 96, kKeys = 256;

#define INLINE inline __attribute__((always_inline))

INLINE Vector load(const float* from) { return *reinterpret_cast<const Vector*>(from); }
INLINE void store(float* to, Vector value) { *reinterpret_cast<Vector*>(to) = value; }
INLINE Vector splat(float x) { return Vector{x, x, x, x, x, x, x, x}; }

// C[R, 8 V] = (C +) A B over `depth` terms, with C in registers. A's element (r, k) is at a[r * aRow + k * aDepth], B is
// one panel.
template <int R, int V, bool kAdd>
void block(int64_t depth, const float* a, int64_t aRow, int64_t aDepth, const float* b, float* c, int64_t cStride) {
  Vector sum[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
#pragma GCC unroll 2
    for (int v = 0; v < V; v++) sum[r][v] = kAdd ? load(c + r * cStride + v * kLanes) : Vector{};
  for (int64_t k = 0; k < depth; k++) {
    Vector right[V];
#pragma GCC unroll 2
    for (int v = 0; v < V; v++) right[v] = load(b + (k * V + v) * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
      const Vector left = splat(a[r * aRow + k * aDepth]);
#pragma GCC unroll 2
      for (int v = 0; v < V; v++) sum[r][v] += left * right[v];
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
#pragma GCC unroll 2
    for (int v = 0; v < V; v++) store(c + r * cStride + v * kLanes, sum[r][v]);
}

// So many rows are as many sums as there are registers for.
constexpr int kRows = 6;

// All rows of C, under one panel.
template <int V, bool kAdd>
void column(int64_t rows, int64_t depth, const float* a, int64_t aRow, int64_t aDepth, const float* b, float* c,
            int64_t cStride) {
  int64_t row = 0;
  for (; row + kRows <= rows; row += kRows)
    block<kRows, V, kAdd>(depth, a + row * aRow, aRow, aDepth, b, c + row * cStride, cStride);
  constexpr decltype(&block<1, V, kAdd>) rest[kRows] = {nullptr,           block<1, V, kAdd>, block<2, V, kAdd>,
                                                        block<3, V, kAdd>, block<4, V, kAdd>, block<5, V, kAdd>};
  if (row < rows) rest[rows - row](depth, a + row * aRow, aRow, aDepth, b, c + row * cStride, cStride);
}

// C[rows, columns] += A B; B is the rows from `first` on of panels of `all` rows.
void addProduct(int64_t rows, int64_t columns, int64_t depth, const float* a, int64_t aRow, int64_t aDepth,
                const float* panels, int64_t all, int64_t first, Rows c) {
  int64_t j = 0;
  for (; j + kPanel <= columns; j += kPanel)
    column<2, true>(rows, depth, a, aRow, aDepth, panels + j * all + first * kPanel, c.data + j, c.stride);
  if (j < columns)
    column<1, true>(rows, depth, a, aRow, aDepth, panels + j * all + first * kLanes, c.data + j, c.stride);
}

// A tile of A Bᵀ, in panels; columns are rounded up to whole ones.
void scores(int64_t rows, int64_t columns, int64_t depth, Rows a, const float* panels, float* tile) {
  for (int64_t j = 0; j < columns; j += kPanel)
    column<2, false>(rows, depth, a.data, a.stride, 1, panels + j * depth, tile + j, kKeys);
}

// e^x for x ≤ 0, within 1 ulp: 2^n e^r with |r| ≤ ln 2 / 2, e^r by its series, whose next term is 5e-9. NaN stays NaN.
INLINE Vector exponential(Vector x) {
  // Where e^x is no normal number any more, it is 0.
  const Integers isTiny = x < splat(-87.0f);
  x = isTiny ? splat(-87.0f) : x;
  // The sum rounds to an integer in the last bits.
  const float rounder = 12582912.0f;
  const Vector shifted = x * 1.44269504f + rounder;
  const Vector n = shifted - rounder;
  // ln 2 in two parts, the first exact in few bits.
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

INLINE float total(Vector x) {
  float result = 0;
  for (int i = 0; i < kLanes; i++) result += x[i];
  return result;
}

float largest(const float* x, int64_t count) {
  Vector found = load(x);
  for (int64_t i = kLanes; i < count; i += kLanes) {
    const Vector next = load(x + i);
    found = next > found ? next : found;
  }
  float result = found[0];
  for (int i = 1; i < kLanes; i++) result = std::max(result, found[i]);
  return result;
}

// x = e^(x - top), and their sum.
float exponentials(float* x, int64_t count, float top) {
  Vector sum{};
  for (int64_t i = 0; i < count; i += kLanes) {
    const Vector e = exponential(load(x + i) - top);
    store(x + i, e);
    sum += e;
  }
  return total(sum);
}

float dot(const float* a, const float* b, int64_t count) {
  Vector sum{};
  for (int64_t i = 0; i < count; i += kLanes) sum += load(a + i) * load(b + i);
  return total(sum);
}

void multiplyRow(float* row, int64_t count, float factor) {
  for (int64_t i = 0; i < count; i += kLanes) store(row + i, load(row + i) * factor);
}

int64_t roundUp(int64_t count, int64_t multiple) { return (count + multiple - 1) / multiple * multiple; }

// The scores of keys that fill the last panel up: e^-∞ = 0.
void maskFill(float* tile, int64_t rows, int64_t count) {
  for (int64_t r = 0; r < rows; r++)
    std::fill(tile + r * kKeys + count, tile + r * kKeys + roundUp(count, kPanel),
              -std::numeric_limits<float>::infinity());
}

Rows from(Rows rows, int64_t i) { return {rows[i], rows.stride}; }

void forwardRows(const AttentionForward& head, int64_t row, int64_t rows) {
  alignas(64) float tile[kQueries * kKeys];
  float top[kQueries], sum[kQueries];
  std::fill(top, top + rows, -std::numeric_limits<float>::infinity());
  std::fill(sum, sum + rows, 0.0f);
  const Rows out = from(head.out, row);
  for (int64_t r = 0; r < rows; r++) std::fill_n(out[r], head.valueWidth, 0.0f);

  for (int64_t key = 0; key < head.keyCount; key += kKeys) {
    const int64_t count = std::min(kKeys, head.keyCount - key), filled = roundUp(count, kPanel);
    scores(rows, count, head.width, from(head.queries, row), head.keysTransposed + key * head.width, tile);
    maskFill(tile, rows, count);
    for (int64_t r = 0; r < rows; r++) {
      const float before = top[r];
      top[r] = std::max(before, largest(tile + r * kKeys, filled));
      // What was summed up to here was relative to the largest up to here.
      const float factor = key == 0 ? 0.0f : std::exp(before - top[r]);
      sum[r] = sum[r] * factor + exponentials(tile + r * kKeys, filled, top[r]);
      if (key > 0 && before != top[r]) multiplyRow(out[r], head.valueWidth, factor);
    }
    addProduct(rows, head.valueWidth, count, tile, kKeys, 1, head.values, head.keyCount, key, out);
  }
  for (int64_t r = 0; r < rows; r++) {
    multiplyRow(out[r], head.valueWidth, 1 / sum[r]);
    head.logSumExp[row + r] = top[r] + std::log(sum[r]);
  }
}

void backwardRows(const AttentionBackward& head, int64_t row, int64_t rows) {
  alignas(64) float weights[kQueries * kKeys];
  alignas(64) float grads[kQueries * kKeys];
  float dots[kQueries];
  const int64_t width = head.width, valueWidth = head.valueWidth;
  const Rows queries = from(head.queries, row), gradOut = from(head.gradOut, row);
  for (int64_t r = 0; r < rows; r++) dots[r] = dot(head.out[row + r], gradOut[r], valueWidth);

  for (int64_t key = 0; key < head.keyCount; key += kKeys) {
    const int64_t count = std::min(kKeys, head.keyCount - key), filled = roundUp(count, kPanel);
    scores(rows, count, width, queries, head.keysTransposed + key * width, weights);
    maskFill(weights, rows, count);
    scores(rows, count, valueWidth, gradOut, head.valuesTransposed + key * valueWidth, grads);
    for (int64_t r = 0; r < rows; r++)
      for (int64_t i = r * kKeys; i < r * kKeys + filled; i += kLanes) {
        const Vector weight = exponential(load(weights + i) - head.logSumExp[row + r]);
        store(weights + i, weight);
        store(grads + i, weight * (load(grads + i) - dots[r]) * head.scale);
      }
    addProduct(count, valueWidth, rows, weights, 1, kKeys, head.gradOutPanels, head.queryCount, row,
               from(head.gradValues, key));
    addProduct(rows, width, count, grads, kKeys, 1, head.keyPanels, head.keyCount, key, from(head.gradQueries, row));
    addProduct(count, width, rows, grads, 1, kKeys, head.queryPanels, head.queryCount, row, from(head.gradKeys, key));
  }
}

template <typename Head, void (*work)(const Head&, int64_t, int64_t)>
void inBlocks(const Head& head, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; row += kQueries) work(head, row, std::min(kQueries, end - row));
}

constexpr AttentionKernels kKernels = {inBlocks<AttentionForward, forwardRows>,
                                       inBlocks<AttentionBackward, backwardRows>};

}  // namespace
