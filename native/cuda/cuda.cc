// CUDA graphs, and the memory of GPUs. Built with the headers of CUDA's runtime if there are any (IP_ADAPTER_CUDA, see
// tools/build-native.mjs); without them, the rest of the addon still runs on a GPU.
#include "binding/addon.h"

#ifdef IP_ADAPTER_CUDA

#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

namespace {

using Graph = at::cuda::CUDAGraph;

// A running capture: kernels are recorded, not run. It needs a stream of its own, since CUDA cannot record the default one.
struct Capture {
  c10::cuda::CUDAStreamGuard stream;
  std::shared_ptr<Graph> graph = std::make_shared<Graph>();
  explicit Capture(c10::DeviceIndex device) : stream(c10::cuda::getStreamFromPool(false, device)) {}
};

std::unique_ptr<Capture> capture;

// All graphs share one memory pool: they never run at the same time, and results are copied before the next graph runs.
c10::MempoolId_t pool() {
  static const auto shared = at::cuda::graph_pool_handle();
  return shared;
}

c10::DeviceIndex deviceIndex(const Napi::Value& device) {
  const c10::Device wanted(device.As<Napi::String>().Utf8Value());
  return wanted.has_index() ? wanted.index() : c10::cuda::current_device();
}

// beginCapture(device): releases unused memory first, because that is not possible during a capture.
Napi::Value beginCapture(const Napi::CallbackInfo& info) {
  return guarded(info, [&] {
    TORCH_CHECK(capture == nullptr, "a capture is under way");
    auto begun = std::make_unique<Capture>(deviceIndex(info[0]));
    c10::cuda::device_synchronize();
    c10::cuda::CUDACachingAllocator::emptyCache();
    begun->graph->capture_begin(pool());
    capture = std::move(begun);
    return info.Env().Undefined();
  });
}

// endCapture() -> handle of the graph
Napi::Value endCapture(const Napi::CallbackInfo& info) {
  return guarded(info, [&] {
    TORCH_CHECK(capture != nullptr, "no capture is under way");
    const std::unique_ptr<Capture> ended = std::move(capture);
    ended->graph->capture_end();
    return Napi::Number::New(info.Env(), Addon::of(info.Env()).graphs.add(ended->graph));
  });
}

// abandonCapture(): ends a capture after an error. It never throws, since that first error is the one to report.
Napi::Value abandonCapture(const Napi::CallbackInfo& info) {
  const std::unique_ptr<Capture> abandoned = std::move(capture);
  if (abandoned != nullptr) {
    try {
      abandoned->graph->capture_end();
    } catch (const std::exception&) {
    }
  }
  return info.Env().Undefined();
}

Napi::Value replay(const Napi::CallbackInfo& info) {
  return guarded(info, [&] {
    const auto* graph = Addon::of(info.Env()).graphs.find(info[0].As<Napi::Number>().DoubleValue());
    TORCH_CHECK(graph != nullptr, "this graph was released already");
    static_cast<Graph*>(graph->get())->replay();
    return info.Env().Undefined();
  });
}

// gpuMemory(device) -> the bytes of tensors on the device, and their peak
Napi::Value gpuMemory(const Napi::CallbackInfo& info) {
  return guarded(info, [&] {
    const auto stats = c10::cuda::CUDACachingAllocator::getDeviceStats(deviceIndex(info[0]));
    const auto& bytes = stats.allocated_bytes[0];  // the sum over all pools
    Napi::Object result = Napi::Object::New(info.Env());
    result["gpuAllocatedBytes"] = Napi::Number::New(info.Env(), static_cast<double>(bytes.current));
    result["gpuPeakBytes"] = Napi::Number::New(info.Env(), static_cast<double>(bytes.peak));
    return result;
  });
}

Napi::Value resetGpuPeak(const Napi::CallbackInfo& info) {
  return guarded(info, [&] {
    c10::cuda::CUDACachingAllocator::resetPeakStats(deviceIndex(info[0]));
    return info.Env().Undefined();
  });
}

}  // namespace

int64_t gpuAllocatedBytes() {
  return c10::cuda::CUDACachingAllocator::getDeviceStats(c10::cuda::current_device()).allocated_bytes[0].current;
}

void exportCuda(Napi::Env env, Napi::Object exports) {
  Napi::Object cuda = Napi::Object::New(env);
  cuda["beginCapture"] = Napi::Function::New(env, beginCapture);
  cuda["endCapture"] = Napi::Function::New(env, endCapture);
  cuda["abandonCapture"] = Napi::Function::New(env, abandonCapture);
  cuda["replay"] = Napi::Function::New(env, replay);
  cuda["gpuMemory"] = Napi::Function::New(env, gpuMemory);
  cuda["resetGpuPeak"] = Napi::Function::New(env, resetGpuPeak);
  cuda["releaseGraph"] = Napi::Function::New(env, [](const Napi::CallbackInfo& info) {
    Addon::of(info.Env()).graphs.remove(info[0].As<Napi::Number>().DoubleValue());
  });
  exports["cuda"] = cuda;
}

#else

int64_t gpuAllocatedBytes() { return 0; }

void exportCuda(Napi::Env env, Napi::Object exports) { exports["cuda"] = env.Null(); }

#endif
