// JavaScript's side of reading images: resample, resampleAsync, writePlanar, jpegLibrary, jpegSize, cropJpeg.
#include "binding/addon.h"
#include "binding/arguments.h"
#include "images/jpeg.h"
#include "images/resample.h"

#include <algorithm>

namespace {

using resampling::Coefficients;

// The sums of positive and of negative weights are limited so that sums over bytes fit in 32 bits.
constexpr int64_t kMaxWeights = (int64_t(INT32_MAX) - resampling::kHalf) / 255;

Coefficients coefficientsArgument(const Napi::Value& argument, size_t inputs) {
  const Napi::Object table = argument.ToObject();
  const auto array = [&](const char* key) { return int32ArrayArgument(table.Get(key), key); };
  const Napi::Int32Array firsts = array("first"), counts = array("count"), all = array("weights");
  Coefficients result{firsts.Data(), counts.Data(), all.Data(), firsts.ElementLength(), 0};
  const size_t outputs = result.outputs, taps = result.taps = outputs == 0 ? 0 : all.ElementLength() / outputs;
  TORCH_CHECK(counts.ElementLength() == outputs && all.ElementLength() == outputs * taps, "coefficients of unequal lengths");
  for (size_t i = 0; i < outputs; i++)
    TORCH_CHECK(result.first[i] >= 0 && result.count[i] >= 0 && size_t(result.count[i]) <= taps &&
                    size_t(result.first[i]) + size_t(result.count[i]) <= inputs,
                "coefficients that reach past the image");
  for (size_t i = 0; i < outputs; i++) {
    int64_t positive = 0, negative = 0;
    for (size_t k = 0; k < taps; k++) (result.weights[i * taps + k] > 0 ? positive : negative) += result.weights[i * taps + k];
    TORCH_CHECK(positive <= kMaxWeights && -negative <= kMaxWeights, "coefficients whose sums do not fit in 32 bits");
  }
  return result;
}

// What a thread needs to resample an image. It has pointers into JavaScript's arrays, which must outlive it.
struct Crop {
  Coefficients columns, rows;
  uint8_t* out = nullptr;

  Crop(const Napi::Value& columnTable, const Napi::Value& rowTable, size_t width, size_t height)
      : columns(coefficientsArgument(columnTable, width)), rows(coefficientsArgument(rowTable, height)) {}

  // The result.
  Napi::Uint8Array allocate(Napi::Env env) {
    Napi::Uint8Array result = Napi::Uint8Array::New(env, 3 * columns.outputs * rows.outputs);
    out = result.Data();
    return result;
  }

  void run(const uint8_t* rgb, size_t width) const { resampling::resample(rgb, width, columns, rows, out); }
};

// Arrays that must not be collected while a thread uses them.
class Kept {
 public:
  explicit Kept(Napi::Env env) : arrays_(Napi::Persistent(Napi::Object::New(env))) {}
  void add(const Napi::Value& array) { arrays_.Set(count_++, array); }
  void addTable(const Napi::Value& table) {
    for (const char* key : {"first", "count", "weights"}) add(table.As<Napi::Object>().Get(key));
  }

 private:
  Napi::ObjectReference arrays_;
  uint32_t count_ = 0;
};

Crop cropOf(const Napi::CallbackInfo& info) {
  const size_t bytes = bytesArgument(info[0], "the pixels").ByteLength();
  const auto width = static_cast<size_t>(integerArgument(info[1], "the width", 1, UINT32_MAX));
  TORCH_CHECK(bytes % (3 * width) == 0, "Expected rows of ", width, " pixels but received ", bytes, " bytes");
  return Crop(info[2], info[3], width, bytes / (3 * width));
}

// resample(rgb, width, columns, rows): width × height × 3 bytes -> rows' outputs × columns' outputs × 3 bytes.
Napi::Value resample(const Napi::CallbackInfo& info) {
  return guarded(info, [&] {
    Crop crop = cropOf(info);
    const Napi::Uint8Array result = crop.allocate(info.Env());
    crop.run(info[0].As<Napi::Uint8Array>().Data(), info[1].As<Napi::Number>().Uint32Value());
    return result;
  });
}

// Resamples in one of Node's threads. JavaScript must not write to the arrays meanwhile.
class ResamplingWorker : public Napi::AsyncWorker {
 public:
  explicit ResamplingWorker(const Napi::CallbackInfo& info)
      : Napi::AsyncWorker(info.Env()),
        deferred(Napi::Promise::Deferred::New(info.Env())),
        crop_(cropOf(info)),
        rgb_(info[0].As<Napi::Uint8Array>().Data()),
        width_(info[1].As<Napi::Number>().Uint32Value()),
        kept_(info.Env()) {
    result_ = Napi::Persistent(crop_.allocate(info.Env()));
    kept_.add(info[0]);
    kept_.addTable(info[2]);
    kept_.addTable(info[3]);
  }

  const Napi::Promise::Deferred deferred;

 protected:
  void Execute() override { crop_.run(rgb_, width_); }
  void OnOK() override { deferred.Resolve(result_.Value()); }
  void OnError(const Napi::Error& error) override { deferred.Reject(error.Value()); }

 private:
  Crop crop_;
  const uint8_t* rgb_;
  size_t width_;
  Kept kept_;
  Napi::Reference<Napi::Uint8Array> result_;
};

template <typename Worker>
Napi::Value start(const Napi::CallbackInfo& info) {
  return guarded(info, [&] {
    auto worker = std::make_unique<Worker>(info);
    const Napi::Promise promise = worker->deferred.Promise();
    worker->Queue();
    worker.release();  // it deletes itself when it is done
    return promise;
  });
}

// jpegLibrary() -> the name and version of the library; null where the addon was built without one.
Napi::Value jpegLibrary(const Napi::CallbackInfo& info) {
  const char* name = jpeg::library();
  return name == nullptr ? info.Env().Null() : Napi::Value(Napi::String::New(info.Env(), name));
}

// jpegSize(bytes) -> [width, height]; null for a file that cropJpeg does not take.
Napi::Value jpegSize(const Napi::CallbackInfo& info) {
  return guarded(info, [&]() -> Napi::Value {
    const Napi::Uint8Array bytes = bytesArgument(info[0], "the file");
    jpeg::Header header;
    if (!jpeg::readHeader(bytes.Data(), bytes.ByteLength(), header)) return info.Env().Null();
    Napi::Array size = Napi::Array::New(info.Env(), 2);
    size[0u] = Napi::Number::New(info.Env(), static_cast<double>(header.width));
    size[1u] = Napi::Number::New(info.Env(), static_cast<double>(header.height));
    return size;
  });
}

// Decodes a JPEG and resamples it in one of Node's threads, so that the whole image is never one of JavaScript's arrays.
class JpegWorker : public Napi::AsyncWorker {
 public:
  explicit JpegWorker(const Napi::CallbackInfo& info)
      : Napi::AsyncWorker(info.Env()), deferred(Napi::Promise::Deferred::New(info.Env())), kept_(info.Env()) {
    const Napi::Uint8Array bytes = bytesArgument(info[0], "the file");
    const Napi::Array crops = arrayArgument(info[2], "the crops");
    shrink_ = static_cast<int>(integerArgument(info[1], "the shrinking", 1, 8));
    TORCH_CHECK((shrink_ & (shrink_ - 1)) == 0, "Expected 1, 2, 4 or 8 for the shrinking but received ", shrink_);
    TORCH_CHECK(jpeg::readHeader(bytes.Data(), bytes.ByteLength(), header_), "Expected a file that jpegSize takes");
    width_ = shrunk(header_.width);
    height_ = shrunk(header_.height);
    kept_.add(bytes);
    Napi::Array results = Napi::Array::New(info.Env());
    for (uint32_t i = 0; i < crops.Length(); i++) {
      const Napi::Object tables = crops.Get(i).As<Napi::Object>();
      const Napi::Value columns = tables.Get("columns"), rows = tables.Get("rows");
      crops_.emplace_back(columns, rows, width_, height_);
      results[i] = crops_.back().allocate(info.Env());
      kept_.addTable(columns);
      kept_.addTable(rows);
    }
    if (crops_.empty()) {
      Napi::Uint8Array all = Napi::Uint8Array::New(info.Env(), 3 * width_ * height_);
      all_ = all.Data();
      results[0u] = all;
    }
    results_ = Napi::Persistent(results.As<Napi::Object>());
  }

  const Napi::Promise::Deferred deferred;

 protected:
  void Execute() override {
    thread_local std::vector<uint8_t> buffer;
    uint8_t* rgb = all_;
    if (rgb == nullptr) {
      buffer.resize(3 * width_ * height_);
      rgb = buffer.data();
    }
    isDecoded_ = jpeg::decode(header_, shrink_, rgb);
    if (!isDecoded_) return;
    for (const Crop& crop : crops_) crop.run(rgb, width_);
    // A thread lives as long as the process: it does not keep the memory of a large image.
    if (buffer.capacity() > kKeptBytes) std::vector<uint8_t>().swap(buffer);
  }
  void OnOK() override { deferred.Resolve(isDecoded_ ? Napi::Value(results_.Value()) : Env().Null()); }
  void OnError(const Napi::Error& error) override { deferred.Reject(error.Value()); }

 private:
  static constexpr size_t kKeptBytes = 16 << 20;
  size_t shrunk(size_t side) const { return (side + static_cast<size_t>(shrink_) - 1) / static_cast<size_t>(shrink_); }

  jpeg::Header header_;
  int shrink_ = 1;
  size_t width_ = 0, height_ = 0;
  std::vector<Crop> crops_;
  uint8_t* all_ = nullptr;
  bool isDecoded_ = false;
  Kept kept_;
  Napi::ObjectReference results_;
};

// writePlanar(images, table, handle): writes the table's numbers for the bytes of red, then of green, then of blue, of one image
// after another; zeros for null. `table` has 256 numbers for each colour, the tensor [images, 3, height, width] floats on the CPU.
Napi::Value writePlanar(const Napi::CallbackInfo& info) {
  return guarded(info, [&] {
    const Napi::Array images = arrayArgument(info[0], "the images");
    TORCH_CHECK(info[1].IsTypedArray() && info[1].As<Napi::TypedArray>().TypedArrayType() == napi_float32_array,
                "Expected the table to be a Float32Array but received ", describeValue(info[1]));
    const Napi::Float32Array table = info[1].As<Napi::Float32Array>();
    TORCH_CHECK(table.ElementLength() == 768, "Expected a table of 768 numbers but received ", table.ElementLength());
    at::Tensor& out = Addon::of(info.Env()).tensor(info[2]);
    TORCH_CHECK(out.is_contiguous() && out.is_cpu() && out.scalar_type() == at::kFloat && out.dim() == 4 &&
                    out.size(0) == images.Length() && out.size(1) == 3,
                "Expected contiguous floats of ", images.Length(), " images on the CPU but received ", out.scalar_type(), " ",
                out.sizes());
    const auto pixels = static_cast<size_t>(out.size(2) * out.size(3));
    const float *red = table.Data(), *green = red + 256, *blue = red + 512;
    for (uint32_t n = 0; n < images.Length(); n++) {
      float* to = out.data_ptr<float>() + n * 3 * pixels;
      const Napi::Value image = images.Get(n);
      if (image.IsNull()) {
        std::fill(to, to + 3 * pixels, 0.0f);
        continue;
      }
      const Napi::Uint8Array rgb = bytesArgument(image, "the pixels");
      TORCH_CHECK(rgb.ByteLength() == 3 * pixels, "Expected ", 3 * pixels, " bytes but received ", rgb.ByteLength());
      const uint8_t* from = rgb.Data();
      for (size_t i = 0; i < pixels; i++, from += 3) {
        to[i] = red[from[0]];
        to[pixels + i] = green[from[1]];
        to[2 * pixels + i] = blue[from[2]];
      }
    }
    return info.Env().Undefined();
  });
}

}  // namespace

// resampleAsync(…) -> a promise of what resample(…) returns.
// cropJpeg(bytes, shrink, [{columns, rows}, …]) -> a promise of the crops' bytes, without crops of the whole image's, decoded
// at 1/shrink of the size, rounded up; of null where the file has a fault. It may be thrown for a file of which jpegSize is null.
void exportImages(Napi::Env env, Napi::Object exports) {
  exports["resample"] = Napi::Function::New(env, resample);
  exports["resampleAsync"] = Napi::Function::New(env, start<ResamplingWorker>);
  exports["writePlanar"] = Napi::Function::New(env, writePlanar);
  exports["jpegLibrary"] = Napi::Function::New(env, jpegLibrary);
  exports["jpegSize"] = Napi::Function::New(env, jpegSize);
  exports["cropJpeg"] = Napi::Function::New(env, start<JpegWorker>);
}
