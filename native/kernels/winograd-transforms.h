// The three transforms of Winograd's algorithm in two dimensions: of weights, of tiles of input, and of products into results.
// F: F2 or F4 of winograd-points.h. Tiles are counted over the whole batch.
#pragma once

#include "kernels/kernels.h"
#include "kernels/winograd-points.h"

#include <algorithm>

namespace {

template <typename F>
constexpr int64_t kPoints = F::kEdge * F::kEdge;
// Channels in a panel of weights, and registers of tiles in a panel of input: their products fill most registers.
constexpr int64_t kWeightRows = kLanes / 2, kTileVectors = 3, kTileWidth = kTileVectors * kLanes;
// The most tiles of a block whose transform is not in memory as a whole.
constexpr int64_t kBlockTiles = 2 * kTileWidth;
// Floats between what would else be a power of two apart, and so in the same sets of a cache.
constexpr int64_t kGap = 16;

int64_t panelsOf(int64_t count, int64_t width) { return (count + width - 1) / width; }

// Floats of a point of a panel, and of a panel.
int64_t pointOfWeights(int64_t depth) { return (depth + 1) / 2 * 2 * kWeightRows + kGap; }
template <typename F>
int64_t panelOfWeights(int64_t depth) {
  return kPoints<F> * pointOfWeights(depth);
}
int64_t pointOfTiles(int64_t depth) { return depth * kTileWidth + kGap; }
template <typename F>
int64_t panelOfTiles(int64_t depth) {
  return kPoints<F> * pointOfTiles(depth);
}

// Transforms the weights of some panels of output channels, for `depth` input channels from `channel` on:
// -> [panel][point][depth][kWeightRows]
template <typename F>
void transformWeights(const Convolution& of, int64_t panel, int64_t endPanel, int64_t channel, int64_t depth, float* to) {
  const int64_t point = pointOfWeights(depth), panelSize = panelOfWeights<F>(depth);
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
      if (of.isRotated) std::reverse(g, g + 9);
      Eight rows[3][F::kEdge];
#pragma GCC unroll 3
      for (int x = 0; x < 3; x++) F::weights(g[x], g[3 + x], g[6 + x], rows[x]);
      float* at = to + (p - panel) * panelSize + k * kWeightRows;
#pragma GCC unroll 6
      for (int y = 0; y < F::kEdge; y++) {
        Eight row[F::kEdge];
        F::weights(rows[0][y], rows[1][y], rows[2][y], row);
#pragma GCC unroll 6
        for (int x = 0; x < F::kEdge; x++) store(at + (F::kEdge * y + x) * point, row[x]);
      }
    }
}

template <typename F>
int64_t tilesOf(const Convolution& of) {
  return of.batch * panelsOf(of.height, F::kResults) * panelsOf(of.width, F::kResults);
}

// Adjacent tiles of one row of tiles.
struct Segment {
  int64_t image, row, column, count;
};

// Calls body(segment, first) for the parts of tiles `begin` to `end`, counted over the batch, that lie in one row each; `first`
// is counted from `begin`.
template <typename F, typename Body>
INLINE void forEachSegment(const Convolution& of, int64_t begin, int64_t end, Body body) {
  const int64_t columns = panelsOf(of.width, F::kResults), rows = panelsOf(of.height, F::kResults);
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

// The pixels of a segment, transformed vertically: kEdge rows, from the pixel before its first tile on.
template <typename F>
struct Lines {
  static constexpr int64_t kMostPixels = F::kResults * kBlockTiles + 2;
  float values[F::kEdge][kMostPixels + F::kResults * kLanes];
};

constexpr int64_t kChannelsAhead = 2;

// Transforms V's number of columns from x on.
template <typename F, typename V>
INLINE void transformLines(const float* const rows[F::kEdge], float* const lines[F::kEdge], int64_t x) {
  V from[F::kEdge], points[F::kEdge];
#pragma GCC unroll 6
  for (int i = 0; i < F::kEdge; i++) from[i] = load<V>(rows[i] + x);
  F::pixels(from, points);
#pragma GCC unroll 6
  for (int i = 0; i < F::kEdge; i++) store(lines[i] + x, points[i]);
}

template <typename F>
void transformLines(const Convolution& of, const float* channel, const Segment& segment, Lines<F>& to) {
  alignas(64) static const float zeros[Lines<F>::kMostPixels + kLanes] = {};
  const int64_t first = F::kResults * segment.column - 1, count = F::kResults * segment.count + 2;
  const int64_t begin = std::max<int64_t>(first, 0), length = std::min(first + count, of.width) - begin;
  const float* rows[F::kEdge];
  float* lines[F::kEdge];
  for (int64_t i = 0; i < F::kEdge; i++) {
    const int64_t y = F::kResults * segment.row - 1 + i;
    rows[i] = y < 0 || y >= of.height ? zeros : channel + y * of.width + begin;
    // The next channels' pixels are apart, so they come too late without a hint.
    for (int64_t x = 0; x < length; x += 16) __builtin_prefetch(rows[i] + x + kChannelsAhead * of.height * of.width);
    to.values[i][0] = 0;
    lines[i] = to.values[i] + (begin - first);
    for (int64_t x = length; x < count; x++) lines[i][x] = 0;
  }
  int64_t x = 0;
  for (; x + kLanes <= length; x += kLanes) transformLines<F, Vector>(rows, lines, x);
  for (; x < length; x++) transformLines<F, float>(rows, lines, x);
}

// Transforms the lines of a vector of tiles horizontally, and calls put(point, values).
template <typename F, typename Put>
INLINE void transformColumns(const Lines<F>& lines, int64_t tile, Put put) {
#pragma GCC unroll 6
  for (int i = 0; i < F::kEdge; i++) {
    const float* line = lines.values[i] + F::kResults * tile;
    // Of the next tile's columns only the first two.
    Vector pixels[2 * F::kResults], points[F::kEdge];
    separateColumns<F::kResults>(line, pixels);
    separateColumns<F::kResults>(line + F::kResults, pixels + F::kResults);
    F::pixels(pixels, points);
#pragma GCC unroll 6
    for (int x = 0; x < F::kEdge; x++) put(F::kEdge * i + x, points[x]);
  }
}

// Stores the first kCount of a vector of tiles.
template <typename F, int64_t kCount>
INLINE void transformPart(const Lines<F>& lines, int64_t tile, float* to, int64_t point) {
  transformColumns<F>(lines, tile, [&](int i, const Vector& x) { std::memcpy(to + i * point, &x, kCount * sizeof(float)); });
}

// Transforms tiles `begin` to `end` of some input channels: -> panels [point][inChannels][tiles of a panel]
template <typename F>
void transformTiles(const Convolution& of, int64_t begin, int64_t end, int64_t channel, int64_t endChannel, float* to) {
  const int64_t tiles = end - begin, plane = of.height * of.width;
  const int64_t point = pointOfTiles(of.inChannels), panelSize = panelOfTiles<F>(of.inChannels);
  Lines<F> lines;
  for (; channel < endChannel; channel++) {
    const auto address = [&](int64_t tile) {
      const int64_t panel = tile / kTileWidth;
      return to + panel * panelSize + channel * widthOfPanel(tiles, panel) + tile % kTileWidth;
    };
    forEachSegment<F>(of, begin, end, [&](const Segment& segment, int64_t first) {
      transformLines<F>(of, of.input + (segment.image * of.inChannels + channel) * plane, segment, lines);
      for (int64_t tile = 0; tile < segment.count; tile += kLanes) {
        const int64_t count = std::min(kLanes, segment.count - tile);
        float* at = address(first + tile);
        // The rows of small images fill a half or a quarter of a register.
        const auto isPart = [&](int64_t part) { return count == part && (first + tile) % part == 0; };
        if (isPart(kLanes)) {
          transformPart<F, kLanes>(lines, tile, at, point);
        } else if (isPart(kLanes / 2)) {
          transformPart<F, kLanes / 2>(lines, tile, at, point);
        } else if (isPart(kLanes / 4)) {
          transformPart<F, kLanes / 4>(lines, tile, at, point);
        } else {
          transformColumns<F>(lines, tile, [&](int i, const Vector& x) {
            for (int64_t j = 0; j < count; j++) address(first + tile + j)[i * point] = x[j];
          });
        }
      }
    });
    for (int64_t tile = tiles; tile % kLanes != 0; tile++)
      for (int64_t i = 0; i < kPoints<F>; i++) address(tile)[i * point] = 0;
  }
}

// The products of some panels of weights and tiles: [point][channels][tiles].
struct Products {
  float* data;
  int64_t row, point;
};

// Transforms the products of tiles `begin` to `end` and of channels `channel` to `endChannel` into results.
template <typename F>
void transformProducts(const Convolution& of, int64_t begin, int64_t end, int64_t channel, int64_t endChannel, const Products& from) {
  constexpr int kEdge = F::kEdge, kResults = F::kResults;
  for (int64_t row = 0; channel < endChannel; channel++, row++) {
    const float* products = from.data + row * from.row;
    const Vector bias = splat(of.bias ? of.bias[channel] : 0.0f);
    for (int64_t block = begin; block < end; block += kBlockTiles) {
      const int64_t blockEnd = std::min(end, block + kBlockTiles);
      alignas(64) float lines[kResults][kResults * kBlockTiles];
      for (int64_t tile = 0; tile < blockEnd - block; tile += kLanes) {
        Vector rows[kResults][kEdge];
#pragma GCC unroll 6
        for (int x = 0; x < kEdge; x++) {
          const float* at = products + block - begin + tile + x * from.point;
          Vector column[kEdge], results[kResults];
#pragma GCC unroll 6
          for (int y = 0; y < kEdge; y++) column[y] = load(at + y * kEdge * from.point);
          F::results(column, results);
#pragma GCC unroll 4
          for (int y = 0; y < kResults; y++) rows[y][x] = results[y];
        }
#pragma GCC unroll 4
        for (int y = 0; y < kResults; y++) {
          Vector results[kResults];
          F::results(rows[y], results);
#pragma GCC unroll 4
          for (int x = 0; x < kResults; x++) results[x] += bias;
          storeColumns<kResults>(results, lines[y] + kResults * tile);
        }
      }
      forEachSegment<F>(of, block, blockEnd, [&](const Segment& segment, int64_t first) {
        const int64_t x = kResults * segment.column, y = kResults * segment.row;
        const int64_t count = std::min(kResults * segment.count, of.width - x), rows = std::min<int64_t>(kResults, of.height - y);
        float* to = of.out + ((segment.image * of.outChannels + channel) * of.height + y) * of.width + x;
        for (int64_t i = 0; i < rows; i++) std::memcpy(to + i * of.width, lines[i] + kResults * first, count * sizeof(float));
      });
    }
  }
}

}  // namespace
