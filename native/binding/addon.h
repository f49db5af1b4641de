// Shared by all parts of the addon: the handle tables, the state of an environment, and the error boundary.
//
// JavaScript holds a tensor as a number (a slot plus a generation), not as an object. So calls are cheap, a scope releases
// thousands of tensors at once, and a use after release is an error instead of a crash. Generators work the same way.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <napi.h>

template <typename T>
class HandleTable {
 public:
  // Handles start at 2^28, so that a small number that is passed by mistake is never a valid handle.
  static constexpr uint64_t kSlots = uint64_t(1) << 28;

  double add(T value) {
    uint32_t slot;
    if (free_.empty()) {
      slot = static_cast<uint32_t>(slots_.size());
      slots_.push_back({});
    } else {
      slot = free_.back();
      free_.pop_back();
    }
    Slot& entry = slots_[slot];
    entry.value = std::move(value);
    entry.used = true;
    return static_cast<double>(entry.generation * kSlots + slot);
  }

  // Returns nullptr if the number is not a handle or the handle was released.
  T* find(double handle) {
    if (!(handle >= static_cast<double>(kSlots)) || handle > 9007199254740991.0) return nullptr;
    const uint64_t bits = static_cast<uint64_t>(handle);
    const uint64_t slot = bits % kSlots;
    if (slot >= slots_.size()) return nullptr;
    Slot& entry = slots_[slot];
    return entry.used && entry.generation == bits / kSlots ? &entry.value : nullptr;
  }

  void remove(double handle) {
    if (find(handle) == nullptr) return;
    const uint32_t slot = static_cast<uint32_t>(static_cast<uint64_t>(handle) % kSlots);
    slots_[slot].value = T();
    slots_[slot].used = false;
    slots_[slot].generation = slots_[slot].generation % ((uint64_t(1) << 24) - 1) + 1;
    free_.push_back(slot);
  }

  size_t live() const { return slots_.size() - free_.size(); }

 private:
  struct Slot {
    T value{};
    uint64_t generation = 1;
    bool used = false;
  };
  std::vector<Slot> slots_;
  std::vector<uint32_t> free_;
};

// An argument of an operator, with its type resolved.
struct Argument {
  enum class Kind { Tensor, Int, Float, Bool, Scalar, String, Device, Generator, List };
  Kind kind;
  Kind element = Kind::Tensor;    // of a List
  bool optional = false;          // None is allowed
  bool elementOptional = false;   // Tensor?[]
  int32_t length = 0;             // of a fixed-size List such as int[2]: one number stands for all
  bool hasDefault = false;
  c10::IValue fallback;
  std::string name;
};

struct Operator {
  c10::OperatorHandle handle;
  std::vector<Argument> arguments;
  size_t returns;
};

struct Addon {
  HandleTable<at::Tensor> tensors;
  HandleTable<at::Generator> generators;
  HandleTable<std::shared_ptr<void>> graphs;  // at::cuda::CUDAGraph, which not every LibTorch has
  std::vector<Operator> operators;
  torch::jit::Stack stack;
  int64_t reportedBytes = 0;  // the external memory that was reported to V8's garbage collector
  bool usesCuda = false;      // whether an operator has returned a tensor on a GPU

  static Addon& of(Napi::Env env) { return *env.GetInstanceData<Addon>(); }

  at::Tensor& tensor(const Napi::Value& value);
};

// Runs `body` and converts every C++ exception into a JavaScript error, so that none aborts the process.
template <typename Body>
Napi::Value guarded(const Napi::CallbackInfo& info, Body body) {
  try {
    return body();
  } catch (const Napi::Error&) {
    throw;
  } catch (const c10::Error& error) {
    throw Napi::Error::New(info.Env(), error.what_without_backtrace());
  } catch (const std::exception& error) {
    throw Napi::Error::New(info.Env(), error.what());
  } catch (...) {
    throw Napi::Error::New(info.Env(), "LibTorch threw an object that is not a std::exception");
  }
}

// binding/convert.cc
Argument describeArgument(const c10::Argument& argument);
// Throws where fromIValue could not convert the type. It is checked before the call, so that no handles are left behind.
void checkReturn(const c10::Argument& result);
c10::IValue toIValue(Napi::Env env, Addon& addon, napi_value value, const Argument& argument);
Napi::Value fromIValue(Napi::Env env, Addon& addon, const c10::IValue& value);
Napi::Array toArray(Napi::Env env, c10::IntArrayRef values);

// The parts of the export table.
void exportDispatch(Napi::Env env, Napi::Object exports);
void exportTensor(Napi::Env env, Napi::Object exports);
void exportMappedFiles(Napi::Env env, Napi::Object exports);
void exportGenerator(Napi::Env env, Napi::Object exports);
void exportAutograd(Napi::Env env, Napi::Object exports);
void exportMemory(Napi::Env env, Napi::Object exports);
void exportImages(Napi::Env env, Napi::Object exports);
void exportReadLater(Napi::Env env, Napi::Object exports);
void exportCuda(Napi::Env env, Napi::Object exports);
void exportProcessGroup(Napi::Env env, Napi::Object exports);

// cuda/cuda.cc: returns the bytes of tensors on the current GPU; 0 if the addon was built without CUDA's headers.
int64_t gpuAllocatedBytes();

// memory/cpu-allocator.cc
struct CpuMemory {
  int64_t allocated, cached, peak;
};
CpuMemory cpuMemory();
