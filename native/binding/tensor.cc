// Tensors by handle: what they are, their bytes in and out, files mapped into memory, random generators.
#include "addon.h"

#include <ATen/Context.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>

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

// isMapped(handle): whether the values lie in the pages of a file. Only storage over foreign memory has no allocator.
Napi::Value isMapped(const Napi::CallbackInfo& info) {
  return guarded(info, [&] {
    const at::Tensor& tensor = Addon::of(info.Env()).tensor(info[0]);
    return Napi::Boolean::New(info.Env(), tensor.has_storage() && tensor.storage().allocator() == nullptr);
  });
}

// release(handles: number[]): handles released already are passed over.
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

at::ScalarType scalarType(const Napi::Value& value) {
  return static_cast<at::ScalarType>(value.As<Napi::Number>().Int32Value());
}

// fromBytes(view, dtype, shape): copies the bytes into a new CPU tensor.
Napi::Value fromBytes(const Napi::CallbackInfo& info) {
  return guarded(info, [&] {
    const Napi::Uint8Array bytes = info[0].As<Napi::Uint8Array>();
    at::Tensor tensor = at::empty(toIntVector(info[2]), at::dtype(scalarType(info[1])));
    TORCH_CHECK(bytes.ByteLength() == tensor.nbytes(), "Expected ", tensor.nbytes(), " bytes for the shape ",
                tensor.sizes(), " but received ", bytes.ByteLength());
    if (tensor.nbytes() > 0) std::memcpy(tensor.data_ptr(), bytes.Data(), tensor.nbytes());
    return Napi::Number::New(info.Env(), Addon::of(info.Env()).tensors.add(std::move(tensor)));
  });
}

// toBytes(handle): a copy of the values, row-major, from any device.
Napi::Value toBytes(const Napi::CallbackInfo& info) {
  return guarded(info, [&] {
    const at::Tensor tensor = Addon::of(info.Env()).tensor(info[0]).detach().cpu().contiguous();
    Napi::ArrayBuffer buffer = Napi::ArrayBuffer::New(info.Env(), tensor.nbytes());
    if (tensor.nbytes() > 0) std::memcpy(buffer.Data(), tensor.data_ptr(), tensor.nbytes());
    return buffer;
  });
}

struct Mapping {
  void* data = MAP_FAILED;
  size_t size = 0;
  ~Mapping() {
    if (data != MAP_FAILED) munmap(data, size);
  }
};

std::shared_ptr<Mapping> mapFile(const std::string& path) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  TORCH_CHECK(file >= 0, "cannot open ", path, ": ", std::strerror(errno));
  struct stat status;
  auto mapping = std::make_shared<Mapping>();
  if (fstat(file, &status) == 0 && status.st_size > 0) {
    mapping->size = static_cast<size_t>(status.st_size);
    // Private and writable: a write to such a tensor changes memory, never the file.
    mapping->data = mmap(nullptr, mapping->size, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
  }
  const int error = errno;
  close(file);
  TORCH_CHECK(mapping->data != MAP_FAILED, "cannot map ", path, ": ", std::strerror(error));
  return mapping;
}

// mapTensors(path, [[offset, dtype, shape], ...]): tensors over the file's own pages.
Napi::Value mapTensors(const Napi::CallbackInfo& info) {
  return guarded(info, [&] {
    const std::string path = info[0].As<Napi::String>();
    const Napi::Array wanted = info[1].As<Napi::Array>();
    const auto mapping = mapFile(path);
    Addon& addon = Addon::of(info.Env());
    Napi::Array handles = Napi::Array::New(info.Env(), wanted.Length());
    for (uint32_t i = 0; i < wanted.Length(); i++) {
      const Napi::Array entry = wanted.Get(i).As<Napi::Array>();
      const uint64_t offset = static_cast<uint64_t>(entry.Get(0u).As<Napi::Number>().Int64Value());
      const auto options = at::dtype(scalarType(entry.Get(1u)));
      const std::vector<int64_t> sizes = toIntVector(entry.Get(2u));
      const size_t itemsize = c10::elementSize(scalarType(entry.Get(1u)));
      uint64_t bytes = itemsize;
      for (const int64_t size : sizes)
        TORCH_CHECK(size >= 0 && !__builtin_mul_overflow(bytes, static_cast<uint64_t>(size), &bytes), "impossible shape in ", path);
      TORCH_CHECK(offset <= mapping->size && bytes <= mapping->size - offset, path, " ends before its tensor ", i);
      char* data = static_cast<char*>(mapping->data) + offset;
      at::Tensor tensor;
      if (bytes == 0) {
        tensor = at::empty(sizes, options);
      } else if (reinterpret_cast<uintptr_t>(data) % itemsize != 0) {  // a file may be laid out so; the engine may not
        tensor = at::empty(sizes, options);
        std::memcpy(tensor.data_ptr(), data, bytes);
      } else {
        tensor = at::from_blob(data, sizes, [mapping](void*) {}, options);
      }
      handles[i] = Napi::Number::New(info.Env(), addon.tensors.add(std::move(tensor)));
    }
    return handles;
  });
}

Napi::Value createGenerator(const Napi::CallbackInfo& info) {
  return guarded(info, [&] {
    const c10::Device device(info[0].As<Napi::String>().Utf8Value());
    at::Generator generator = at::globalContext().defaultGenerator(device).clone();
    generator.set_current_seed(static_cast<uint64_t>(info[1].As<Napi::Number>().Int64Value()));
    return Napi::Number::New(info.Env(), Addon::of(info.Env()).generators.add(std::move(generator)));
  });
}

at::Generator& generatorOf(const Napi::CallbackInfo& info) {
  at::Generator* found = Addon::of(info.Env()).generators.find(info[0].As<Napi::Number>().DoubleValue());
  TORCH_CHECK(found != nullptr, "this Generator was released already");
  return *found;
}

Napi::Value getGeneratorState(const Napi::CallbackInfo& info) {
  return guarded(info, [&] {
    return Napi::Number::New(info.Env(), Addon::of(info.Env()).tensors.add(generatorOf(info).get_state()));
  });
}

Napi::Value setGeneratorState(const Napi::CallbackInfo& info) {
  return guarded(info, [&] {
    generatorOf(info).set_state(Addon::of(info.Env()).tensor(info[1]));
    return info.Env().Undefined();
  });
}

Napi::Value releaseGenerator(const Napi::CallbackInfo& info) {
  return guarded(info, [&] {
    Addon::of(info.Env()).generators.remove(info[0].As<Napi::Number>().DoubleValue());
    return info.Env().Undefined();
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
  exports["mapTensors"] = Napi::Function::New(env, mapTensors);
  exports["createGenerator"] = Napi::Function::New(env, createGenerator);
  exports["getGeneratorState"] = Napi::Function::New(env, getGeneratorState);
  exports["setGeneratorState"] = Napi::Function::New(env, setGeneratorState);
  exports["releaseGenerator"] = Napi::Function::New(env, releaseGenerator);
}
