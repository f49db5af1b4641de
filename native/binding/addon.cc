// The export table, and the settings of the whole process: version, threads, CUDA.
#include "binding/addon.h"
#include "binding/arguments.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/version.h>

namespace {

// A limit above the cores of any machine. Without it, OpenMP would try to start 100 million threads.
constexpr int kMaxThreads = 1024;

Napi::Value setNumThreads(const Napi::CallbackInfo& info) {
  return guarded(info, [&] {
    at::set_num_threads(static_cast<int>(integerArgument(info[0], "the number of threads", 1, kMaxThreads)));
    return info.Env().Undefined();
  });
}

Napi::Value getNumThreads(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), at::get_num_threads());
}

Napi::Value cudaDevices(const Napi::CallbackInfo& info) {
  return guarded(info, [&] {
    const int count = at::hasCUDA() ? c10::impl::VirtualGuardImpl(c10::kCUDA).deviceCount() : 0;
    return Napi::Number::New(info.Env(), count);
  });
}

// tuneCuda(allowTF32) -> the current settings. Chooses the fastest of cuDNN's algorithms for each shape of a convolution.
// With TF32, matrix products and convolutions of float32 use 10 bits of mantissa.
Napi::Value tuneCuda(const Napi::CallbackInfo& info) {
  return guarded(info, [&] {
    at::Context& context = at::globalContext();
    const bool allowTF32 = info[0].As<Napi::Boolean>();
    context.setBenchmarkCuDNN(true);
    context.setAllowTF32CuBLAS(allowTF32);
    context.setAllowTF32CuDNN(allowTF32);
    Napi::Object result = Napi::Object::New(info.Env());
    result["matmulTF32"] = Napi::Boolean::New(info.Env(), context.allowTF32CuBLAS());
    result["convolutionTF32"] = Napi::Boolean::New(info.Env(), context.allowTF32CuDNN());
    return result;
  });
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  env.SetInstanceData(new Addon());
  exports["torchVersion"] = Napi::String::New(env, TORCH_VERSION);
  exports["setNumThreads"] = Napi::Function::New(env, setNumThreads);
  exports["getNumThreads"] = Napi::Function::New(env, getNumThreads);
  exports["cudaDevices"] = Napi::Function::New(env, cudaDevices);
  exports["tuneCuda"] = Napi::Function::New(env, tuneCuda);
  exportDispatch(env, exports);
  exportTensor(env, exports);
  exportMappedFiles(env, exports);
  exportGenerator(env, exports);
  exportAutograd(env, exports);
  exportMemory(env, exports);
  exportImages(env, exports);
  exportReadLater(env, exports);
  exportCuda(env, exports);
  exportProcessGroup(env, exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(ip_adapter, init)
