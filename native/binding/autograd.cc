// The parts of autograd that are not operators: grad mode, requires_grad, .grad.
#include "binding/addon.h"

#include <c10/core/GradMode.h>

namespace {

// setGradEnabled(on) -> the previous setting
Napi::Value setGradEnabled(const Napi::CallbackInfo& info) {
  const bool previous = c10::GradMode::is_enabled();
  c10::GradMode::set_enabled(info[0].As<Napi::Boolean>());
  return Napi::Boolean::New(info.Env(), previous);
}

Napi::Value isGradEnabled(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), c10::GradMode::is_enabled());
}

Napi::Value requiresGrad(const Napi::CallbackInfo& info) {
  return guarded(info, [&] { return Napi::Boolean::New(info.Env(), Addon::of(info.Env()).tensor(info[0]).requires_grad()); });
}

Napi::Value setRequiresGrad(const Napi::CallbackInfo& info) {
  return guarded(info, [&] {
    Addon::of(info.Env()).tensor(info[0]).requires_grad_(info[1].As<Napi::Boolean>());
    return info.Env().Undefined();
  });
}

// grad(handle) -> handle or null
Napi::Value grad(const Napi::CallbackInfo& info) {
  return guarded(info, [&]() -> Napi::Value {
    Addon& addon = Addon::of(info.Env());
    const at::Tensor gradient = addon.tensor(info[0]).grad();
    return gradient.defined() ? Napi::Number::New(info.Env(), addon.tensors.add(gradient)) : info.Env().Null();
  });
}

// setGrad(handle, gradient handle or null)
Napi::Value setGrad(const Napi::CallbackInfo& info) {
  return guarded(info, [&] {
    Addon& addon = Addon::of(info.Env());
    addon.tensor(info[0]).mutable_grad() = info[1].IsNull() ? at::Tensor() : addon.tensor(info[1]);
    return info.Env().Undefined();
  });
}

}  // namespace

void exportAutograd(Napi::Env env, Napi::Object exports) {
  exports["setGradEnabled"] = Napi::Function::New(env, setGradEnabled);
  exports["isGradEnabled"] = Napi::Function::New(env, isGradEnabled);
  exports["requiresGrad"] = Napi::Function::New(env, requiresGrad);
  exports["setRequiresGrad"] = Napi::Function::New(env, setRequiresGrad);
  exports["grad"] = Napi::Function::New(env, grad);
  exports["setGrad"] = Napi::Function::New(env, setGrad);
}
