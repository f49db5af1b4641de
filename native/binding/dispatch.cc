// Calls LibTorch's operators through its dispatcher. An operator is found by name and called boxed, so every ATen operator
// works, with autograd, without a wrapper.
#include "binding/addon.h"

#include <sstream>

namespace {

constexpr size_t kMaxArguments = 40;
constexpr int64_t kReportStep = int64_t(256) << 20;

// findOperator(name, overload) -> [index, schema], or null if this LibTorch does not have the operator.
Napi::Value findOperator(const Napi::CallbackInfo& info) {
  return guarded(info, [&]() -> Napi::Value {
    const Napi::Env env = info.Env();
    const c10::OperatorName name(info[0].As<Napi::String>(), info[1].As<Napi::String>());
    const auto handle = c10::Dispatcher::singleton().findSchema(name);
    if (!handle) return env.Null();
    const c10::FunctionSchema& schema = handle->schema();
    Operator entry{*handle, {}, schema.returns().size()};
    for (const c10::Argument& result : schema.returns()) checkReturn(result);
    for (const c10::Argument& argument : schema.arguments()) entry.arguments.push_back(describeArgument(argument));
    TORCH_CHECK(entry.arguments.size() < kMaxArguments, "too many arguments");
    Addon& addon = Addon::of(env);
    addon.operators.push_back(std::move(entry));
    std::ostringstream text;
    text << schema;
    Napi::Array result = Napi::Array::New(env, 2);
    result[0u] = Napi::Number::New(env, static_cast<double>(addon.operators.size() - 1));
    result[1u] = Napi::String::New(env, text.str());
    return result;
  });
}

// Reports memory to V8, but only after larger changes: each report may start a garbage collection.
void reportMemory(Napi::Env env, Addon& addon) {
  const int64_t bytes = cpuMemory().allocated + (addon.usesCuda ? gpuAllocatedBytes() : 0);
  if (std::abs(bytes - addon.reportedBytes) < kReportStep) return;
  Napi::MemoryManagement::AdjustExternalMemory(env, bytes - addon.reportedBytes);
  addon.reportedBytes = bytes;
}

// call(index, ...arguments). Trailing arguments may be omitted if the schema has defaults for them.
Napi::Value call(const Napi::CallbackInfo& info) {
  return guarded(info, [&]() -> Napi::Value {
    const Napi::Env env = info.Env();
    Addon& addon = Addon::of(env);
    const Operator& op = addon.operators.at(info[0].As<Napi::Number>().Uint32Value());
    const size_t count = info.Length() - 1;
    if (count > op.arguments.size())
      throw Napi::TypeError::New(env, "Expected at most " + std::to_string(op.arguments.size()) +
                                          " arguments but received " + std::to_string(count));
    torch::jit::Stack stack;
    stack.swap(addon.stack);
    stack.clear();
    for (size_t i = 0; i < op.arguments.size(); i++)
      stack.push_back(toIValue(env, addon, i < count ? static_cast<napi_value>(info[i + 1]) : static_cast<napi_value>(env.Undefined()),
                               op.arguments[i]));
    op.handle.callBoxed(stack);
    if (!addon.usesCuda && !stack.empty() && stack[0].isTensor()) addon.usesCuda = stack[0].toTensor().is_cuda();
    reportMemory(env, addon);
    Napi::Value result = env.Undefined();
    if (stack.size() == 1) {
      result = fromIValue(env, addon, stack[0]);
    } else if (stack.size() > 1) {
      Napi::Array results = Napi::Array::New(env, stack.size());
      for (size_t i = 0; i < stack.size(); i++) results[static_cast<uint32_t>(i)] = fromIValue(env, addon, stack[i]);
      result = results;
    }
    stack.clear();
    stack.swap(addon.stack);
    return result;
  });
}

}  // namespace

void exportDispatch(Napi::Env env, Napi::Object exports) {
  exports["findOperator"] = Napi::Function::New(env, findOperator);
  exports["call"] = Napi::Function::New(env, call);
}
