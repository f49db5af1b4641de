// The properties of tensors, and conversions from and to bytes.
#include "binding/addon.h"
#include "binding/arguments.h"

#include <cstring>

namespace {

Napi::Value shape(const Napi::CallbackInfo& info) {
  return guarded(info, [&] { return toArray(info.Env(), Addon::of(info.Env()).tensor(info[0]).sizes()); });
}

Napi::Value strides(const Napi::CallbackInfo& info) {
  return guarded(info, [&] { return toArray(info.Env(), Addon::of(info.Env()).tensor(info[0]).strides()); });
}

Napi::Value dtype(const Napi::CallbackInfo& info) {
  return guarded(info, [&] {
    return Napi::Number::New(info.Env(), static_cast<int>(Addon::of(info.Env()).tensor(info[0]).scalar_type()));
  });
}

Napi::Value device(const Napi::CallbackInfo& info) {
  return guarded(info, [&] { return Napi::String::New(info.Env(), Addon::of(info.Env()).tensor(info[0]).device().str()); });
}

// isMapped(handle): whether the values are in a mapped file. Only storage in foreign memory has no allocator.
Napi::Value isMapped(const Napi::CallbackInfo& info) {
  return guarded(info, [&] {
    const at::Tensor& tensor = Addon::of(info.Env()).tensor(info[0]);
    return Napi::Boolean::New(info.Env(), tensor.has_storage() && tensor.storage().allocator() == nullptr);
  });
}

// release(handles: number[]): ignores handles that were released already.
Napi::Value release(const Napi::CallbackInfo& info) {
  return guarded(info, [&] {
    Addon& addon = Addon::of(info.Env());
    const Napi::Array handles = info[0].As<Napi::Array>();
    const uint32_t length = handles.Length();
    for (uint32_t i = 0; i < length; i++) addon.tensors.remove(handles.Get(i).As<Napi::Number>().DoubleValue());
    return info.Env().Undefined();
  });
}

Napi::Value liveTensors(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(Addon::of(info.Env()).tensors.live()));
}

// fromBytes(view, dtype, shape): copies the bytes into a new CPU tensor.
Napi::Value fromBytes(const Napi::CallbackInfo& info) {
  return guarded(info, [&] {
    const Napi::Uint8Array bytes = bytesArgument(info[0], "the values");
    at::Tensor tensor = at::empty(shapeArgument(info[2]), at::dtype(dtypeArgument(info[1])));
    TORCH_CHECK(bytes.ByteLength() == tensor.nbytes(), "Expected ", tensor.nbytes(), " bytes for the shape ",
                tensor.sizes(), " but received ", bytes.ByteLength());
    if (tensor.nbytes() > 0) std::memcpy(tensor.data_ptr(), bytes.Data(), tensor.nbytes());
    return Napi::Number::New(info.Env(), Addon::of(info.Env()).tensors.add(std::move(tensor)));
  });
}

// toBytes(handle) -> a copy of the values, row-major, from any device.
Napi::Value toBytes(const Napi::CallbackInfo& info) {
  return guarded(info, [&] {
    const at::Tensor tensor = Addon::of(info.Env()).tensor(info[0]).detach().cpu().contiguous();
    Napi::ArrayBuffer buffer = Napi::ArrayBuffer::New(info.Env(), tensor.nbytes());
    if (tensor.nbytes() > 0) std::memcpy(buffer.Data(), tensor.data_ptr(), tensor.nbytes());
    return buffer;
  });
}

}  // namespace

void exportTensor(Napi::Env env, Napi::Object exports) {
  exports["shape"] = Napi::Function::New(env, shape);
  exports["strides"] = Napi::Function::New(env, strides);
  exports["dtype"] = Napi::Function::New(env, dtype);
  exports["device"] = Napi::Function::New(env, device);
  exports["isMapped"] = Napi::Function::New(env, isMapped);
  exports["release"] = Napi::Function::New(env, release);
  exports["liveTensors"] = Napi::Function::New(env, liveTensors);
  exports["fromBytes"] = Napi::Function::New(env, fromBytes);
  exports["toBytes"] = Napi::Function::New(env, toBytes);
}
