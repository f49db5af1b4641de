// The two passes of src/data/resample.ts over the pixels: fixed-point sums of weighted bytes. In C++ since JavaScript
// takes three times as long, and every picture of an epoch comes through here.
#include "addon.h"

#include <algorithm>

// The compiler makes a version for each kind of processor, and the right one is chosen when the addon loads.
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#define FOR_EACH_CPU __attribute__((target_clones("avx2", "default"), optimize("O3")))
#else
#define FOR_EACH_CPU
#endif

namespace {

constexpr int kPrecisionBits = 22;
constexpr int32_t kHalf = int32_t(1) << (kPrecisionBits - 1);

// For each output position its first input position and number of taps, and `taps` weights.
struct Coefficients {
  const int32_t *first, *count, *weights;
  size_t outputs, taps;

  Coefficients(const Napi::Object& table, size_t inputs) {
    const Napi::Int32Array firsts = array(table, "first"), counts = array(table, "count"), all = array(table, "weights");
    first = firsts.Data();
    count = counts.Data();
    weights = all.Data();
    outputs = firsts.ElementLength();
    taps = outputs == 0 ? 0 : all.ElementLength() / outputs;
    TORCH_CHECK(counts.ElementLength() == outputs && all.ElementLength() == outputs * taps, "coefficients of unequal lengths");
    for (size_t i = 0; i < outputs; i++)
      TORCH_CHECK(first[i] >= 0 && count[i] >= 0 && size_t(count[i]) <= taps && size_t(first[i]) + size_t(count[i]) <= inputs,
                  "coefficients that reach past the picture");
  }

 private:
  static Napi::Int32Array array(const Napi::Object& table, const char* key) { return table.Get(key).As<Napi::Int32Array>(); }
};

inline uint8_t clip(int32_t sum) { return static_cast<uint8_t>(std::clamp(sum >> kPrecisionBits, 0, 255)); }

// One row of `outputs` pixels.
FOR_EACH_CPU
void resampleRow(const uint8_t* row, const Coefficients& columns, uint8_t* out) {
  for (size_t x = 0; x < columns.outputs; x++) {
    const uint8_t* pixel = row + 3 * static_cast<size_t>(columns.first[x]);
    const int32_t* weights = columns.weights + x * columns.taps;
    int32_t red = kHalf, green = kHalf, blue = kHalf;
    for (int32_t k = 0; k < columns.count[x]; k++, pixel += 3) {
      red += pixel[0] * weights[k];
      green += pixel[1] * weights[k];
      blue += pixel[2] * weights[k];
    }
    out[3 * x] = clip(red);
    out[3 * x + 1] = clip(green);
    out[3 * x + 2] = clip(blue);
  }
}

// One row of `stride` bytes from `count` rows that lie below one another. `sums` is memory for as many numbers.
FOR_EACH_CPU
void resampleColumns(const uint8_t* rows, size_t stride, const int32_t* weights, int32_t count, int32_t* sums, uint8_t* out) {
  std::fill(sums, sums + stride, kHalf);
  for (int32_t k = 0; k < count; k++) {
    const uint8_t* row = rows + static_cast<size_t>(k) * stride;
    const int32_t weight = weights[k];
    for (size_t x = 0; x < stride; x++) sums[x] += row[x] * weight;
  }
  for (size_t x = 0; x < stride; x++) out[x] = clip(sums[x]);
}

// resample(rgb, width, columns, rows): width × height × 3 bytes -> rows' outputs × columns' outputs × 3 bytes.
Napi::Value resample(const Napi::CallbackInfo& info) {
  return guarded(info, [&] {
    const Napi::Uint8Array source = info[0].As<Napi::Uint8Array>();
    const size_t width = info[1].As<Napi::Number>().Uint32Value();
    TORCH_CHECK(width > 0 && source.ByteLength() % (3 * width) == 0, "Expected rows of ", width, " pixels but received ",
                source.ByteLength(), " bytes");
    const Coefficients columns(info[2].As<Napi::Object>(), width);
    const Coefficients rows(info[3].As<Napi::Object>(), source.ByteLength() / (3 * width));
    const size_t stride = 3 * columns.outputs;
    Napi::Uint8Array result = Napi::Uint8Array::New(info.Env(), rows.outputs * stride);
    if (result.ByteLength() == 0) return result;

    // Only the rows that are read below need the pass along them.
    const size_t begin = *std::min_element(rows.first, rows.first + rows.outputs);
    size_t end = begin;
    for (size_t y = 0; y < rows.outputs; y++) end = std::max<size_t>(end, rows.first[y] + rows.count[y]);
    std::vector<uint8_t> narrow((end - begin) * stride);
    for (size_t y = begin; y < end; y++) resampleRow(source.Data() + y * width * 3, columns, narrow.data() + (y - begin) * stride);

    std::vector<int32_t> sums(stride);
    for (size_t y = 0; y < rows.outputs; y++)
      resampleColumns(narrow.data() + (rows.first[y] - begin) * stride, stride, rows.weights + y * rows.taps, rows.count[y],
                      sums.data(), result.Data() + y * stride);
    return result;
  });
}

}  // namespace

void exportResample(Napi::Env env, Napi::Object exports) { exports["resample"] = Napi::Function::New(env, resample); }
