// Random generators by handle.
#include "binding/addon.h"
#include "binding/arguments.h"

#include <ATen/Context.h>

namespace {

Napi::Value createGenerator(const Napi::CallbackInfo& info) {
  return guarded(info, [&] {
    const c10::Device device(stringArgument(info[0], "the device"));
    const int64_t seed = integerArgument(info[1], "the seed", 0, kMaxSafeInteger);
    at::Generator generator = at::globalContext().defaultGenerator(device).clone();
    generator.set_current_seed(static_cast<uint64_t>(seed));
    return Napi::Number::New(info.Env(), Addon::of(info.Env()).generators.add(std::move(generator)));
  });
}

at::Generator& generatorOf(const Napi::CallbackInfo& info) {
  at::Generator* generator = Addon::of(info.Env()).generators.find(info[0].As<Napi::Number>().DoubleValue());
  TORCH_CHECK(generator != nullptr, "this Generator was released already");
  return *generator;
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

void exportGenerator(Napi::Env env, Napi::Object exports) {
  exports["createGenerator"] = Napi::Function::New(env, createGenerator);
  exports["getGeneratorState"] = Napi::Function::New(env, getGeneratorState);
  exports["setGeneratorState"] = Napi::Function::New(env, setGeneratorState);
  exports["releaseGenerator"] = Napi::Function::New(env, releaseGenerator);
}
