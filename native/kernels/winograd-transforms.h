// The three transforms of Winograd's F(2 × 2, 3 × 3) (Lavin & Gray, arXiv 1509.09308): of weights, of tiles of input, and of
// products into results. A tile is 4 × 4 points of input and 2 × 2 of output; tiles are counted over the whole batch.
#pragma once

#include "kernels/kernels.h"
#include "kernels/vectors.h"

#include <algorithm>

namespace {

constexpr int64_t kPoints = 16;
// Channels in a panel of weights, and registers of tiles in a panel of input: their products fill most registers.
constexpr int64_t kWeightRows = kLanes / 2, kTileVectors = 3, kTileWidth = kTileVectors * kLanes;
// The most tiles of a block whose transform is not in memory as a whole.
constexpr int64_t kBlockTiles = 2 * kTileWidth;
// Floats between what would else be a power of two apart, and so in the same sets of a cache.
constexpr int64_t kGap = 16;

typedef Lanes<8>::Floats Eight;

#ifdef __clang__
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, decltype(a == b){__VA_ARGS__})
#endif

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

// The transform of three numbers: g0, (g0 + g1 + g2) / 2, (g0 - g1 + g2) / 2, g2
INLINE void transformThree(const Eight& g0, const Eight& g1, const Eight& g2, Eight to[4]) {
  const Eight outer = (g0 + g2) * 0.5f, inner = g1 * 0.5f;
  to[0] = g0;
  to[1] = outer + inner;
  to[2] = outer - inner;
  to[3] = g2;
}

int64_t panelsOf(int64_t count, int64_t width) { return (count + width - 1) / width; }

// Floats of a point of a panel, and of a panel.
int64_t pointOfWeights(int64_t depth) { return (depth + 1) / 2 * 2 * kWeightRows + kGap; }
int64_t panelOfWeights(int64_t depth) { return kPoints * pointOfWeights(depth); }
int64_t pointOfTiles(int64_t depth) { return depth * kTileWidth + kGap; }
int64_t panelOfTiles(int64_t depth) { return kPoints * pointOfTiles(depth); }

// Transforms the weights of some panels of output channels, for `depth` input channels from `channel` on:
// -> [panel][point][depth][kWeightRows]
void transformWeights(const Convolution& of, int64_t panel, int64_t endPanel, int64_t channel, int64_t depth, float* to) {
  const int64_t point = pointOfWeights(depth), panelSize = panelOfWeights(depth);
  // Kernels that are apart, as they are in backward, come too late without a hint.
  constexpr int64_t kAhead = 16;
  for (int64_t k = 0; k < depth; k += 8 / kWeightRows)
    for (int64_t p = panel; p < endPanel; p++) {
      const float* kernel[8];
#pragma GCC unroll 8
      for (int64_t i = 0; i < 8; i++) {
        kernel[i] = of.weight + std::min(p * kWeightRows + i % kWeightRows, of.outChannels - 1) * of.weightOut +
                    std::min(channel + k + i / kWeightRows, of.inChannels - 1) * of.weightIn;
        __builtin_prefetch(kernel[i] + kAhead * of.weightIn);
      }
      Eight g[9];
#pragma GCC unroll 8
      for (int i = 0; i < 8; i++) g[i] = load<Eight>(kernel[i]);
      transpose(g);
      g[8] = Eight{kernel[0][8], kernel[1][8], kernel[2][8], kernel[3][8],
                   kernel[4][8], kernel[5][8], kernel[6][8], kernel[7][8]};
      Eight rows[3][4];
#pragma GCC unroll 3
      for (int x = 0; x < 3; x++) transformThree(g[x], g[3 + x], g[6 + x], rows[x]);
      float* at = to + (p - panel) * panelSize + k * kWeightRows;
#pragma GCC unroll 4
      for (int y = 0; y < 4; y++) {
        Eight row[4];
        transformThree(rows[0][y], rows[1][y], rows[2][y], row);
        // Rotating the kernel by 180° only exchanges the outer rows and the outer columns of its transform.
        const int toRow = of.isRotated && y % 3 == 0 ? 3 - y : y;
#pragma GCC unroll 4
        for (int x = 0; x < 4; x++) store(at + (4 * toRow + (of.isRotated && x % 3 == 0 ? 3 - x : x)) * point, row[x]);
      }
    }
}

int64_t tilesOf(const Convolution& of) { return of.batch * panelsOf(of.height, 2) * panelsOf(of.width, 2); }

// Adjacent tiles of one row of tiles.
struct Segment {
  int64_t image, row, column, count;
};

// Calls body(segment, first) for the parts of tiles `begin` to `end`, counted over the batch, that lie in one row each; `first`
// is counted from `begin`.
template <typename Body>
INLINE void forEachSegment(const Convolution& of, int64_t begin, int64_t end, Body body) {
  const int64_t columns = panelsOf(of.width, 2), rows = panelsOf(of.height, 2);
  for (int64_t tile = begin; tile < end;) {
    const int64_t row = tile / columns, column = tile % columns;
    const int64_t count = std::min({end - tile, columns - column, kBlockTiles});
    body(Segment{row / rows, row % rows, column, count}, tile - begin);
    tile += count;
  }
}

int64_t widthOfPanel(int64_t tiles, int64_t panel) {
  return std::min(kTileWidth, panelsOf(tiles - panel * kTileWidth, kLanes) * kLanes);
}

// The pixels of a segment, transformed vertically: four rows, from the pixel before its first tile on.
struct Lines {
  float values[4][2 * kBlockTiles + 2 + 2 * kLanes];
};

constexpr int64_t kChannelsAhead = 2;

// Transforms columns of four pixels: a - c, b + c, c - b, b - d
void transformLines(const Convolution& of, const float* channel, const Segment& segment, Lines& to) {
  alignas(64) static const float zeros[2 * kBlockTiles + 2 + kLanes] = {};
  const int64_t first = 2 * segment.column - 1, count = 2 * segment.count + 2;
  const int64_t begin = std::max<int64_t>(first, 0), end = std::min(first + count, of.width);
  const float* rows[4];
  for (int64_t i = 0; i < 4; i++) {
    const int64_t y = 2 * segment.row - 1 + i;
    rows[i] = y < 0 || y >= of.height ? zeros : channel + y * of.width + begin;
  }
  const auto [a, b, c, d] = rows;
  const int64_t length = end - begin;
  // The next channels' pixels are apart, so they come too late without a hint.
  for (int64_t i = 0; i < 4; i++)
    for (int64_t x = 0; x < length; x += 16) __builtin_prefetch(rows[i] + x + kChannelsAhead * of.height * of.width);
  float* line[4];
  for (int64_t i = 0; i < 4; i++) {
    to.values[i][0] = 0;
    line[i] = to.values[i] + (begin - first);
    for (int64_t x = length; x < count; x++) line[i][x] = 0;
  }
  int64_t x = 0;
  for (; x + kLanes <= length; x += kLanes) {
    const Vector second = load(b + x), third = load(c + x);
    store(line[0] + x, load(a + x) - third);
    store(line[1] + x, second + third);
    store(line[2] + x, third - second);
    store(line[3] + x, second - load(d + x));
  }
  for (; x < length; x++) {
    line[0][x] = a[x] - c[x];
    line[1][x] = b[x] + c[x];
    line[2][x] = c[x] - b[x];
    line[3][x] = b[x] - d[x];
  }
}

// Transforms the lines of a vector of tiles horizontally, and calls put(point, values).
template <typename Put>
INLINE void transformColumns(const Lines& lines, int64_t tile, Put put) {
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {
    const float* line = lines.values[i] + 2 * tile;
    const auto [d0, d1] = separate(load(line), load(line + kLanes));
    const auto [d2, d3] = separate(load(line + 2), load(line + 2 + kLanes));
    put(4 * i, d0 - d2);
    put(4 * i + 1, d1 + d2);
    put(4 * i + 2, d2 - d1);
    put(4 * i + 3, d1 - d3);
  }
}

// Transforms tiles `begin` to `end` of some input channels: -> panels [point][inChannels][tiles of a panel]
void transformTiles(const Convolution& of, int64_t begin, int64_t end, int64_t channel, int64_t endChannel, float* to) {
  const int64_t tiles = end - begin, plane = of.height * of.width;
  const int64_t point = pointOfTiles(of.inChannels), panelSize = panelOfTiles(of.inChannels);
  Lines lines;
  for (; channel < endChannel; channel++) {
    const auto address = [&](int64_t tile) {
      const int64_t panel = tile / kTileWidth;
      return to + panel * panelSize + channel * widthOfPanel(tiles, panel) + tile % kTileWidth;
    };
    forEachSegment(of, begin, end, [&](const Segment& segment, int64_t first) {
      transformLines(of, of.input + (segment.image * of.inChannels + channel) * plane, segment, lines);
      for (int64_t tile = 0; tile < segment.count; tile += kLanes) {
        const int64_t count = std::min(kLanes, segment.count - tile);
        if (count == kLanes && (first + tile) % kLanes == 0) {
          float* at = address(first + tile);
          transformColumns(lines, tile, [&](int i, const Vector& x) { store(at + i * point, x); });
        } else {
          transformColumns(lines, tile, [&](int i, const Vector& x) {
            for (int64_t j = 0; j < count; j++) address(first + tile + j)[i * point] = x[j];
          });
        }
      }
    });
    for (int64_t tile = tiles; tile % kLanes != 0; tile++)
      for (int64_t i = 0; i < kPoints; i++) address(tile)[i * point] = 0;
  }
}

// The products of some panels of weights and tiles: [point][channels][tiles].
struct Products {
  float* data;
  int64_t row, point;
};

// Transforms the products of tiles `begin` to `end` and of channels `channel` to `endChannel` into results.
void transformProducts(const Convolution& of, int64_t begin, int64_t end, int64_t channel, int64_t endChannel, const Products& from) {
  for (int64_t row = 0; channel < endChannel; channel++, row++) {
    const float* products = from.data + row * from.row;
    const Vector bias = splat(of.bias ? of.bias[channel] : 0.0f);
    for (int64_t block = begin; block < end; block += kBlockTiles) {
      const int64_t blockEnd = std::min(end, block + kBlockTiles);
      alignas(64) float lines[2][2 * kBlockTiles];
      for (int64_t tile = 0; tile < blockEnd - block; tile += kLanes) {
        Vector upper[4], lower[4];
#pragma GCC unroll 4
        for (int x = 0; x < 4; x++) {
          const float* m = products + block - begin + tile + x * from.point;
          const Vector m1 = load(m + 4 * from.point), m2 = load(m + 8 * from.point);
          upper[x] = load(m) + m1 + m2;
          lower[x] = m1 - m2 - load(m + 12 * from.point);
        }
        const auto put = [&](const Vector x[4], float* line) {
          const auto [first, second] = interleave(x[0] + x[1] + x[2] + bias, x[1] - x[2] - x[3] + bias);
          store(line + 2 * tile, first);
          store(line + 2 * tile + kLanes, second);
        };
        put(upper, lines[0]);
        put(lower, lines[1]);
      }
      forEachSegment(of, block, blockEnd, [&](const Segment& segment, int64_t first) {
        const int64_t x = 2 * segment.column, y = 2 * segment.row;
        const int64_t count = std::min(2 * segment.count, of.width - x);
        float* to = of.out + ((segment.image * of.outChannels + channel) * of.height + y) * of.width + x;
        std::memcpy(to, lines[0] + 2 * first, count * sizeof(float));
        if (y + 1 < of.height) std::memcpy(to + of.width, lines[1] + 2 * first, count * sizeof(float));
      });
    }
  }
}

}  // namespace
