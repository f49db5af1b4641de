// The two passes of src/images/resample.ts over the pixels: fixed-point sums of weighted bytes. In C++, because JavaScript
// takes three times as long, and every image of an epoch is resampled.
#include "binding/addon.h"
#include "binding/arguments.h"

#include <algorithm>
#include <cstdint>

// The compiler creates a version for each kind of CPU, and one is chosen when the addon is loaded.
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#define FOR_EACH_CPU __attribute__((target_clones("avx2", "default"), optimize("O3")))
#else
#define FOR_EACH_CPU
#endif

namespace {

constexpr int kPrecisionBits = 22;
constexpr int32_t kHalf = int32_t(1) << (kPrecisionBits - 1);
// The sums of positive and of negative weights are limited so that sums over bytes fit in 32 bits.
constexpr int64_t kMaxWeights = (int64_t(INT32_MAX) - kHalf) / 255;

// For each output position: the first input position, the number of taps, and `taps` weights.
struct Coefficients {
  const int32_t *first, *count, *weights;
  size_t outputs, taps;

  Coefficients(const Napi::Value& argument, size_t inputs) {
    const Napi::Object table = argument.ToObject();
    const Napi::Int32Array firsts = array(table, "first"), counts = array(table, "count"), all = array(table, "weights");
    first = firsts.Data();
    count = counts.Data();
    weights = all.Data();
    outputs = firsts.ElementLength();
    taps = outputs == 0 ? 0 : all.ElementLength() / outputs;
    TORCH_CHECK(counts.ElementLength() == outputs && all.ElementLength() == outputs * taps, "coefficients of unequal lengths");
    for (size_t i = 0; i < outputs; i++)
      TORCH_CHECK(first[i] >= 0 && count[i] >= 0 && size_t(count[i]) <= taps && size_t(first[i]) + size_t(count[i]) <= inputs,
                  "coefficients that reach past the image");
    for (size_t i = 0; i < outputs; i++) {
      int64_t positive = 0, negative = 0;
      for (size_t k = 0; k < taps; k++) (weights[i * taps + k] > 0 ? positive : negative) += weights[i * taps + k];
      TORCH_CHECK(positive <= kMaxWeights && -negative <= kMaxWeights, "coefficients whose sums do not fit in 32 bits");
    }
  }

 private:
  static Napi::Int32Array array(const Napi::Object& table, const char* key) { return int32ArrayArgument(table.Get(key), key); }
};

inline uint8_t clip(int32_t sum) { return static_cast<uint8_t>(std::clamp(sum >> kPrecisionBits, 0, 255)); }

// Resamples one row to `outputs` pixels.
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

// Computes one row of `stride` bytes from `count` adjacent rows. `sums` is memory for `stride` numbers.
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

// The resampling of one image. It has pointers into JavaScript's arrays, which must outlive it.
class Resampling {
 public:
  explicit Resampling(const Napi::CallbackInfo& info)
      : source_(bytesArgument(info[0], "the pixels").Data()),
        width_(static_cast<size_t>(integerArgument(info[1], "the width", 1, UINT32_MAX))),
        columns_(info[2], width_),
        rows_(info[3], heightOf(info[0].As<Napi::Uint8Array>().ByteLength(), width_)) {}

  // The result.
  Napi::Uint8Array allocate(Napi::Env env) {
    Napi::Uint8Array result = Napi::Uint8Array::New(env, rows_.outputs * stride());
    out_ = result.Data();
    return result;
  }

  void run() const {
    if (rows_.outputs * stride() == 0) return;
    // Only the rows that the second pass reads need the first pass.
    const size_t begin = *std::min_element(rows_.first, rows_.first + rows_.outputs);
    size_t end = begin;
    for (size_t y = 0; y < rows_.outputs; y++) end = std::max<size_t>(end, rows_.first[y] + rows_.count[y]);
    std::vector<uint8_t> narrow((end - begin) * stride());
    for (size_t y = begin; y < end; y++)
      resampleRow(source_ + y * width_ * 3, columns_, narrow.data() + (y - begin) * stride());

    std::vector<int32_t> sums(stride());
    for (size_t y = 0; y < rows_.outputs; y++)
      resampleColumns(narrow.data() + (rows_.first[y] - begin) * stride(), stride(), rows_.weights + y * rows_.taps,
                      rows_.count[y], sums.data(), out_ + y * stride());
  }

 private:
  static size_t heightOf(size_t bytes, size_t width) {
    TORCH_CHECK(bytes % (3 * width) == 0, "Expected rows of ", width, " pixels but received ", bytes, " bytes");
    return bytes / (3 * width);
  }
  size_t stride() const { return 3 * columns_.outputs; }

  const uint8_t* source_;
  size_t width_;
  Coefficients columns_, rows_;
  uint8_t* out_ = nullptr;
};

// Resamples in one of Node's threads. JavaScript must not write to the arrays meanwhile.
class ResamplingWorker : public Napi::AsyncWorker {
 public:
  explicit ResamplingWorker(const Napi::CallbackInfo& info)
      : Napi::AsyncWorker(info.Env()), deferred(Napi::Promise::Deferred::New(info.Env())), resampling_(info) {
    arrays_ = Napi::Persistent(Napi::Object::New(info.Env()));
    uint32_t count = 0;
    arrays_.Set(count++, resampling_.allocate(info.Env()));
    arrays_.Set(count++, info[0]);
    for (size_t table : {2, 3})
      for (const char* key : {"first", "count", "weights"}) arrays_.Set(count++, info[table].As<Napi::Object>().Get(key));
  }

  const Napi::Promise::Deferred deferred;

 protected:
  void Execute() override { resampling_.run(); }
  void OnOK() override { deferred.Resolve(arrays_.Get(0u)); }
  void OnError(const Napi::Error& error) override { deferred.Reject(error.Value()); }

 private:
  Resampling resampling_;
  // References to the result and to the arrays that the pointers point into.
  Napi::ObjectReference arrays_;
};

// resample(rgb, width, columns, rows): width × height × 3 bytes -> rows' outputs × columns' outputs × 3 bytes.
Napi::Value resample(const Napi::CallbackInfo& info) {
  return guarded(info, [&] {
    Resampling resampling(info);
    const Napi::Uint8Array result = resampling.allocate(info.Env());
    resampling.run();
    return result;
  });
}

// resampleAsync(…) -> a promise of the same.
Napi::Value resampleAsync(const Napi::CallbackInfo& info) {
  return guarded(info, [&] {
    auto worker = std::make_unique<ResamplingWorker>(info);
    const Napi::Promise promise = worker->deferred.Promise();
    worker->Queue();
    worker.release();  // it deletes itself when it is done
    return promise;
  });
}

}  // namespace

void exportResample(Napi::Env env, Napi::Object exports) {
  exports["resample"] = Napi::Function::New(env, resample);
  exports["resampleAsync"] = Napi::Function::New(env, resampleAsync);
}
