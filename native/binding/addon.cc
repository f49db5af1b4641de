// The export table, and what concerns the process as a whole: versions, threads, how GPUs compute.
#include "addon.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/version.h>

namespace {

Napi::Value setNumThreads(const Napi::CallbackInfo& info) {
  return guarded(info, [&] {
    at::set_num_threads(info[0].As<Napi::Number>().Int32Value());
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

// tuneCuda(allowTF32): the fastest of cuDNN's convolutions for each shape; products of float32 with 10 bits of mantissa.
Napi::Value tuneCuda(const Napi::CallbackInfo& info) {
  return guarded(info, [&] {
    at::globalContext().setBenchmarkCuDNN(true);
    at::globalContext().setAllowTF32CuBLAS(info[0].As<Napi::Boolean>());
    return info.Env().Undefined();
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
  exportAutograd(env, exports);
  exportMemory(env, exports);
  exportResample(env, exports);
  exportReadLater(env, exports);
  exportCuda(env, exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(ip_adapter, init)
