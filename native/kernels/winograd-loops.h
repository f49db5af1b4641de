// 3 × 3 convolution with stride 1 and padding 1 by Winograd's algorithm. F(2 × 2, 3 × 3) takes 16 products for each tile of 2 × 2
// results and pair of channels in place of 36, F(4 × 4, 3 × 3) 36 for 4 × 4 in place of 144: as many matrix products, one for each
// point of the transformed tiles.
//
// Every result is the sum over the input channels in their order, whatever the blocks, so it depends neither on the batch nor
// on the number of threads.
#include "kernels/winograd-transforms.h"

namespace {

// Input channels in one pass over a panel of tiles, which stays in the first-level cache.
constexpr int64_t kDepth = 256;
// Output channels in a block of products whose tiles are the outer loop, and in one whose channels are.
constexpr int64_t kBlockChannels = 32, kFewChannels = 16;

// What the next product will read. The caches' own prefetching stops at the end of each panel.
struct Next {
  const float *weights, *tiles;
};

// C[kWeightRows, V vectors] = (C +) A B, with A [depth, kWeightRows] and B [depth, V vectors]
template <int V, bool kAdd>
void productBlock(int64_t depth, const float* a, const float* b, float* c, int64_t cStride, const Next& next) {
  Vector sum[kWeightRows][V];
#pragma GCC unroll 8
  for (int r = 0; r < kWeightRows; r++)
#pragma GCC unroll 3
    for (int v = 0; v < V; v++) sum[r][v] = kAdd ? load(c + r * cStride + v * kLanes) : Vector{};
  for (int64_t k = 0; k < depth; k++, a += kWeightRows, b += V * kLanes) {
    if (k * kWeightRows % 16 == 0) {
      __builtin_prefetch(next.weights + k * kWeightRows);
      __builtin_prefetch(next.tiles + k * kWeightRows, 0, 2);
    }
    Vector right[V];
#pragma GCC unroll 3
    for (int v = 0; v < V; v++) right[v] = load(b + v * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < kWeightRows; r++)
#pragma GCC unroll 3
      for (int v = 0; v < V; v++) sum[r][v] += a[r] * right[v];
  }
#pragma GCC unroll 8
  for (int r = 0; r < kWeightRows; r++)
#pragma GCC unroll 3
    for (int v = 0; v < V; v++) store(c + r * cStride + v * kLanes, sum[r][v]);
}

template <bool kAdd>
void product(int64_t width, int64_t depth, const float* a, const float* b, float* c, int64_t cStride, const Next& next) {
  if (width == 3 * kLanes)
    productBlock<3, kAdd>(depth, a, b, c, cStride, next);
  else if (width == 2 * kLanes)
    productBlock<2, kAdd>(depth, a, b, c, cStride, next);
  else
    productBlock<1, kAdd>(depth, a, b, c, cStride, next);
}

// Panels of transformed weights, which begin with input channel `channel` and have `depth` of them.
struct Weights {
  const float* data;
  int64_t panels, channel, depth;
};

// Adds the products of weights and tiles.
template <typename F>
void multiply(const Convolution& of, const Weights& weights, int64_t tileCount, const float* tiles, const Products& to) {
  const int64_t tilePanels = panelsOf(tileCount, kTileWidth);
  const auto weightsAt = [&](int64_t i, int64_t k, int64_t panel) {
    return weights.data + panel * panelOfWeights<F>(weights.depth) + i * pointOfWeights(weights.depth) + k * kWeightRows;
  };
  const auto tilesAt = [&](int64_t i, int64_t k, int64_t panel) {
    return tiles + panel * panelOfTiles<F>(of.inChannels) + i * pointOfTiles(of.inChannels) +
           (weights.channel + k) * widthOfPanel(tileCount, panel);
  };
  for (int64_t i = 0; i < kPoints<F>; i++)
    for (int64_t k = 0; k < weights.depth; k += kDepth) {
      const int64_t depth = std::min(kDepth, weights.depth - k);
      const int64_t nextK = k + kDepth < weights.depth ? k + kDepth : 0, nextPoint = nextK == 0 ? i + 1 : i;
      for (int64_t panel = 0; panel < tilePanels; panel++) {
        const bool isLast = panel + 1 == tilePanels;
        const float *b = tilesAt(i, k, panel), *nextTiles = isLast ? tilesAt(nextPoint, nextK, 0) : tilesAt(i, k, panel + 1);
        for (int64_t w = 0; w < weights.panels; w++) {
          // The next panel of tiles comes in parts, one with each panel of weights.
          const Next next = {w + 1 < weights.panels ? weightsAt(i, k, w + 1) : weightsAt(nextPoint, nextK, 0),
                             nextTiles + w * depth * kWeightRows};
          float* c = to.data + i * to.point + w * kWeightRows * to.row + panel * kTileWidth;
          (weights.channel + k > 0 ? product<true> : product<false>)(widthOfPanel(tileCount, panel), depth, weightsAt(i, k, w), b, c,
                                                                     to.row, next);
        }
      }
    }
}

// Whether there are many tiles: then the weights are transformed as a whole, which are the smaller side, and the tiles block by
// block. Else the tiles are, and the weights block by block.
template <typename F>
bool isByTiles(const Convolution& of) { return tilesOf<F>(of) >= of.outChannels; }

template <typename F>
void prepare(const Convolution& of, int64_t begin, int64_t end, float* to) {
  if (!isByTiles<F>(of)) return transformTiles<F>(of, 0, tilesOf<F>(of), begin, end, to);
  // More panels at once would write to more places than the cache has ways.
  constexpr int64_t most = kFewChannels / kWeightRows;
  for (int64_t panel = begin; panel < end; panel += most)
    transformWeights<F>(of, panel, std::min(end, panel + most), 0, of.inChannels, to + panel * panelOfWeights<F>(of.inChannels));
}

// Computes blocks of tiles.
template <typename F>
void convolveTiles(const Convolution& of, const float* weights, int64_t begin, int64_t end, float* scratch) {
  const int64_t panelCount = panelsOf(of.outChannels, kWeightRows), most = kBlockChannels / kWeightRows;
  float* products = scratch + kBlockTiles / kTileWidth * panelOfTiles<F>(of.inChannels);
  const Products to{products, kBlockTiles, kBlockChannels * kBlockTiles + kGap};
  for (int64_t block = begin; block < end; block++) {
    const int64_t tile = block * kBlockTiles, endTile = std::min(tilesOf<F>(of), tile + kBlockTiles);
    transformTiles<F>(of, tile, endTile, 0, of.inChannels, scratch);
    for (int64_t panel = 0; panel < panelCount; panel += most) {
      const float* first = weights + panel * panelOfWeights<F>(of.inChannels);
      multiply<F>(of, {first, std::min(most, panelCount - panel), 0, of.inChannels}, endTile - tile, scratch, to);
      const int64_t channel = panel * kWeightRows;
      transformProducts<F>(of, tile, endTile, channel, std::min(of.outChannels, channel + kBlockChannels), to);
    }
  }
}

// Computes blocks of output channels.
template <typename F>
void convolveChannels(const Convolution& of, const float* tiles, int64_t begin, int64_t end, float* scratch) {
  const int64_t panelCount = panelsOf(of.outChannels, kWeightRows), most = kFewChannels / kWeightRows;
  const int64_t tileCount = tilesOf<F>(of), row = panelsOf(tileCount, kLanes) * kLanes;
  const Products to{scratch + most * panelOfWeights<F>(kDepth), row, kFewChannels * row + kGap};
  for (int64_t block = begin; block < end; block++) {
    const int64_t first = block * most, panels = std::min(most, panelCount - first);
    for (int64_t k = 0; k < of.inChannels; k += kDepth) {
      const int64_t depth = std::min(kDepth, of.inChannels - k);
      transformWeights<F>(of, first, first + panels, k, depth, scratch);
      multiply<F>(of, {scratch, panels, k, depth}, tileCount, tiles, to);
    }
    const int64_t channel = block * kFewChannels;
    transformProducts<F>(of, 0, tileCount, channel, std::min(of.outChannels, channel + kFewChannels), to);
  }
}

template <typename F>
void convolve(const Convolution& of, const float* prepared, int64_t begin, int64_t end, float* scratch) {
  (isByTiles<F>(of) ? convolveTiles<F> : convolveChannels<F>)(of, prepared, begin, end, scratch);
}

template <typename F>
ConvolutionPlan plan(const Convolution& of) {
  const int64_t tiles = tilesOf<F>(of), weightPanels = panelsOf(of.outChannels, kWeightRows);
  const int64_t panelOfInput = panelOfTiles<F>(of.inChannels);
  if (isByTiles<F>(of))
    return {weightPanels, weightPanels * panelOfWeights<F>(of.inChannels), panelsOf(tiles, kBlockTiles),
            kBlockTiles / kTileWidth * panelOfInput + kPoints<F> * (kBlockChannels * kBlockTiles + kGap)};
  return {of.inChannels, panelsOf(tiles, kTileWidth) * panelOfInput, panelsOf(of.outChannels, kFewChannels),
          kFewChannels / kWeightRows * panelOfWeights<F>(kDepth) +
              kPoints<F> * (kFewChannels * panelsOf(tiles, kLanes) * kLanes + kGap)};
}

template <typename F>
constexpr ConvolutionKernel kWinograd = {plan<F>, prepare<F>, convolve<F>};

}  // namespace
