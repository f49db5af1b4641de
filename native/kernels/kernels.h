// Loops in float32 that are compiled for each instruction set that is worth it.
#pragma once

#include <cstdint>

// Attention over one head. Widths are multiples of 8; what fills them up is zero.

// Rows of a head inside a larger tensor: so many floats from each to the next.
struct Rows {
  float* data;
  int64_t stride;
  float* operator[](int64_t i) const { return data + i * stride; }
};

// Products read their right side in panels: its columns, 16 at a time and 8 at the end if need be, each panel with
// its rows one after another. Of x [count, width] that is [width / 16][count][16], of its transpose
// [ceil(count / 16)][width][16].
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
  // All three are added to.
  Rows gradQueries;  // [n, width]
  Rows gradKeys;     // [keyCount, width]
  Rows gradValues;   // [keyCount, valueWidth]
};

struct Kernels {
  // Both work on the queries from `begin` up to `end`.
  void (*attention)(const AttentionForward& head, int64_t begin, int64_t end);
  void (*attentionBackward)(const AttentionBackward& head, int64_t begin, int64_t end);
  // a · gelu(b), of rows [a, b] of twice the width.
  void (*geglu)(const float* x, float* out, int64_t rows, int64_t width);
  void (*gegluBackward)(const float* x, const float* gradOut, float* gradX, int64_t rows, int64_t width);
};

// The best for this machine.
const Kernels& kernels();
