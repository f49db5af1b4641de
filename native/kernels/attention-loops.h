// Attention by tiles of scores that stay in the second-level cache (FlashAttention-2, arXiv 2307.08691, algorithms 1
// and 2).
#include "kernels/kernels.h"
#include "kernels/vectors.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace {

// The size of a block: rows, and panels at most.
constexpr int kRows = 6, kPanels = PANELS;
// Widths are multiples of this number.
constexpr int64_t kLeast = 8;
typedef Lanes<kLeast>::Floats Narrow;

// The size of a tile of scores: queries and keys.
constexpr int64_t kQueries = 96, kKeys = 256;

// C = (C +) A B over `depth` terms. Element (r, k) of A is a[r * aRow + k * aDepth]. B consists of panels, `bPanel` floats
// apart.
struct Product {
  int64_t depth;
  const float* a;
  int64_t aRow, aDepth;
  const float* b;
  int64_t bPanel;
  float* c;
  int64_t cStride;
};

// Computes R rows and a few columns of C in registers.
template <int R, int64_t kColumns, bool kAdd>
void block(const Product& product) {
  constexpr int64_t lanes = std::min(kLanes, kColumns), inPanel = std::min(kPanel, kColumns) / lanes;
  constexpr int V = kColumns / lanes;
  typedef typename Lanes<lanes>::Floats Part;
  const auto [depth, a, aRow, aDepth, b, bPanel, c, cStride] = product;
  Part sum[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) sum[r][v] = kAdd ? load<Part>(c + r * cStride + v * lanes) : Part{};
  for (int64_t k = 0; k < depth; k++) {
    Part right[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) right[v] = load<Part>(b + v / inPanel * bPanel + (k * inPanel + v % inPanel) * lanes);
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
      const float left = a[r * aRow + k * aDepth];
#pragma GCC unroll 4
      for (int v = 0; v < V; v++) sum[r][v] += left * right[v];
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) store(c + r * cStride + v * lanes, sum[r][v]);
}

// Computes all rows and a few columns of C.
template <int64_t kColumns, bool kAdd>
void column(int64_t rows, Product product) {
  for (; rows >= kRows; rows -= kRows) {
    block<kRows, kColumns, kAdd>(product);
    product.a += kRows * product.aRow;
    product.c += kRows * product.cStride;
  }
  constexpr decltype(&block<1, kColumns, kAdd>) rest[kRows] = {
      nullptr, block<1, kColumns, kAdd>, block<2, kColumns, kAdd>, block<3, kColumns, kAdd>, block<4, kColumns, kAdd>,
      block<5, kColumns, kAdd>};
  if (rows > 0) rest[rows](product);
}

// Computes the product with `count` adjacent panels, at most `most`.
template <int most, bool kAdd>
void multiplyBlock(int64_t count, int64_t rows, const Product& product) {
  if (count == most)
    column<most * kPanel, kAdd>(rows, product);
  else if constexpr (most > 1)
    multiplyBlock<most - 1, kAdd>(count, rows, product);
}

// Computes the product with all panels, one block at a time.
template <bool kAdd>
void multiplyPanels(int64_t count, int64_t rows, Product product) {
  while (count > 0) {
    int64_t now = std::min<int64_t>(count, kPanels);
    // A single panel at the end would have too few independent sums.
    if (now > 2 && count == now + 1) now--;
    multiplyBlock<kPanels, kAdd>(now, rows, product);
    product.b += now * product.bPanel;
    product.c += now * kPanel;
    count -= now;
  }
}

// C[rows, columns] += A B, where B is the rows from `first` on of panels with `all` rows.
void addProduct(int64_t rows, int64_t columns, int64_t depth, const float* a, int64_t aRow, int64_t aDepth,
                const float* panels, int64_t all, int64_t first, Rows c) {
  const int64_t whole = columns / kPanel;
  multiplyPanels<true>(whole, rows, {depth, a, aRow, aDepth, panels + first * kPanel, all * kPanel, c.data, c.stride});
  if (whole * kPanel < columns)
    column<kLeast, true>(rows, {depth, a, aRow, aDepth, panels + whole * kPanel * all + first * kLeast, 0,
                                c.data + whole * kPanel, c.stride});
}

// Computes a tile of A Bᵀ in panels. Columns are rounded up to whole panels.
void scores(int64_t rows, int64_t columns, int64_t depth, Rows a, const float* panels, float* tile) {
  const int64_t count = (columns + kPanel - 1) / kPanel;
  multiplyPanels<false>(count, rows, {depth, a.data, a.stride, 1, panels, depth * kPanel, tile, kKeys});
}

template <typename V>
INLINE float total(const V& x) {
  float result = 0;
  for (size_t i = 0; i < sizeof(V) / sizeof(float); i++) result += x[i];
  return result;
}

float largest(const float* x, int64_t count) {
  Vector lanes = load(x);
  for (int64_t i = kLanes; i < count; i += kLanes) {
    const Vector next = load(x + i);
    lanes = next > lanes ? next : lanes;
  }
  float result = lanes[0];
  for (int i = 1; i < kLanes; i++) result = std::max(result, lanes[i]);
  return result;
}

// Replaces x by e^(x - top) and returns the sum.
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
  Narrow sum{};
  for (int64_t i = 0; i < count; i += kLeast) sum += load<Narrow>(a + i) * load<Narrow>(b + i);
  return total(sum);
}

void multiplyRow(float* row, int64_t count, float factor) {
  for (int64_t i = 0; i < count; i += kLeast) store(row + i, load<Narrow>(row + i) * factor);
}

int64_t roundUp(int64_t count, int64_t multiple) { return (count + multiple - 1) / multiple * multiple; }

// Sets the scores of the keys that pad the last panel to -∞, so that their weight e^-∞ is 0.
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
      const float oldTop = top[r];
      top[r] = std::max(oldTop, largest(tile + r * kKeys, filled));
      // The sums so far are relative to the largest score so far: rescale them to the new one.
      const float factor = key == 0 ? 0.0f : std::exp(oldTop - top[r]);
      sum[r] = sum[r] * factor + exponentials(tile + r * kKeys, filled, top[r]);
      if (key > 0 && oldTop != top[r]) multiplyRow(out[r], head.valueWidth, factor);
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

}  // namespace
