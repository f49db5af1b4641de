// The float32 loops, which are compiled for several instruction sets.
#pragma once

#include <cstdint>

// Attention of one head. Widths are multiples of 8, padded with zeros.

// The rows of a head inside a larger tensor, `stride` floats apart.
struct Rows {
  float* data;
  int64_t stride;
  float* operator[](int64_t i) const { return data + i * stride; }
};

// The right side of a product is stored in panels of 16 columns (8 in the last one if that is enough), each with its rows
// one after another: x [count, width] as [width / 16][count][16], its transpose as [ceil(count / 16)][width][16].
constexpr int64_t kPanel = 16;

struct AttentionForward {
  int64_t keyCount;
  int64_t width;                   // of queries and keys
  int64_t valueWidth;              // of values and results
  Rows queries;                    // [n, width]
  const float* keysTransposed;     // panels, multiplied by the scale
  const float* values;             // panels
  Rows out;                        // [n, valueWidth]
  float* logSumExp;                // [n], of each query's scores
};

struct AttentionBackward {
  int64_t queryCount, keyCount, width, valueWidth;
  float scale;
  Rows queries;                 // [n, width]
  const float* queryPanels;
  const float* keyPanels;
  const float* keysTransposed;  // panels, multiplied by the scale
  const float* valuesTransposed;
  Rows out, gradOut;  // [n, valueWidth]
  const float* gradOutPanels;
  const float* logSumExp;  // [n]
  // The gradients are added to these.
  Rows gradQueries;  // [n, width]
  Rows gradKeys;     // [keyCount, width]
  Rows gradValues;   // [keyCount, valueWidth]
};

// A 3 × 3 convolution with stride 1 and padding 1.
struct Convolution {
  int64_t batch, inChannels, outChannels, height, width;
  const float* input;  // [batch, inChannels, height, width]
  // The kernel from input channel i to output channel o is at weight + o * weightOut + i * weightIn.
  const float* weight;
  int64_t weightOut, weightIn;
  bool isRotated;     // whether all kernels are rotated by 180°
  const float* bias;  // [outChannels], or null
  float* out;         // [batch, outChannels, height, width]
};

// A convolution takes two steps, each in parts that are independent of each other: `preparations`, which fill a buffer of
// `prepared` floats, then `parts`, which read it; each thread has `scratch` floats for these.
struct ConvolutionPlan {
  int64_t preparations, prepared, parts, scratch;
};

struct ConvolutionKernel {
  ConvolutionPlan (*plan)(const Convolution& of);
  // Both compute the parts from `begin` up to `end`.
  void (*prepare)(const Convolution& of, int64_t begin, int64_t end, float* prepared);
  void (*convolve)(const Convolution& of, const float* prepared, int64_t begin, int64_t end, float* scratch);
};

struct Kernels {
  // Both compute the queries from `begin` up to `end`.
  void (*attention)(const AttentionForward& head, int64_t begin, int64_t end);
  void (*attentionBackward)(const AttentionBackward& head, int64_t begin, int64_t end);
  // a · gelu(b) of rows [a, b], which have twice the width.
  void (*geglu)(const float* x, float* out, int64_t rows, int64_t width);
  void (*gegluBackward)(const float* x, const float* gradOut, float* gradX, int64_t rows, int64_t width);
  // In tiles of 2 × 2 and of 4 × 4 results.
  ConvolutionKernel convolution2, convolution4;
};

// Returns the best kernels for this CPU.
const Kernels& kernels();
