// Converts JavaScript values to IValues and back, by the types of an operator's schema.
#include "binding/addon.h"
#include "binding/arguments.h"

#include <cmath>
#include <unordered_map>

namespace {

using Kind = Argument::Kind;

// dtype, layout and memory format are integers in a schema and names in TypeScript.
const std::unordered_map<std::string, int64_t>& namedInts() {
  static const std::unordered_map<std::string, int64_t> names = {
      {"uint8", int64_t(at::kByte)},       {"int8", int64_t(at::kChar)},
      {"int16", int64_t(at::kShort)},      {"int32", int64_t(at::kInt)},
      {"int64", int64_t(at::kLong)},       {"float16", int64_t(at::kHalf)},
      {"float32", int64_t(at::kFloat)},    {"float64", int64_t(at::kDouble)},
      {"bool", int64_t(at::kBool)},        {"bfloat16", int64_t(at::kBFloat16)},
      {"strided", int64_t(at::kStrided)},  {"contiguous", int64_t(at::MemoryFormat::Contiguous)},
      {"preserve", int64_t(at::MemoryFormat::Preserve)},
      {"channels_last", int64_t(at::MemoryFormat::ChannelsLast)},
  };
  return names;
}

const char* kindName(Kind kind) {
  switch (kind) {
    case Kind::Tensor: return "a Tensor";
    case Kind::Int: return "an integer";
    case Kind::Float: return "a number";
    case Kind::Bool: return "a boolean";
    case Kind::Scalar: return "a number";
    case Kind::String: return "a string";
    case Kind::Device: return "a device name";
    case Kind::Generator: return "a Generator";
    case Kind::List: return "an array";
  }
  return "a value";
}

Kind kindOf(const c10::TypePtr& type, const std::string& name) {
  switch (type->kind()) {
    case c10::TypeKind::TensorType: return Kind::Tensor;
    case c10::TypeKind::IntType:
    case c10::TypeKind::SymIntType:
    case c10::TypeKind::ScalarTypeType:
    case c10::TypeKind::LayoutType:
    case c10::TypeKind::MemoryFormatType: return Kind::Int;
    case c10::TypeKind::FloatType: return Kind::Float;
    case c10::TypeKind::BoolType: return Kind::Bool;
    case c10::TypeKind::NumberType: return Kind::Scalar;
    case c10::TypeKind::StringType: return Kind::String;
    case c10::TypeKind::DeviceObjType: return Kind::Device;
    case c10::TypeKind::GeneratorType: return Kind::Generator;
    case c10::TypeKind::ListType: return Kind::List;
    default: TORCH_CHECK(false, "argument '", name, "' has the type ", type->str(), ", which cannot come from JS");
  }
}

[[noreturn]] void mismatch(Napi::Env env, const Argument& argument, Kind kind, const Napi::Value& value) {
  std::string got = describeValue(value);
  if (kind == Kind::Tensor && value.IsNumber() && value.As<Napi::Number>().DoubleValue() >= double(HandleTable<int>::kSlots))
    got = "a tensor that was disposed already";
  throw Napi::TypeError::New(env, "Expected " + std::string(kindName(kind)) + " for argument '" + argument.name +
                                      "' but received " + got);
}

c10::IValue toElement(Napi::Env env, Addon& addon, const Napi::Value& value, const Argument& argument, Kind kind) {
  switch (kind) {
    case Kind::Tensor:
      if (value.IsNumber())
        if (at::Tensor* tensor = addon.tensors.find(value.As<Napi::Number>().DoubleValue())) return *tensor;
      break;
    case Kind::Int:
      if (value.IsNumber()) {
        const double number = value.As<Napi::Number>().DoubleValue();
        if (number == std::floor(number) && std::abs(number) <= kMaxSafeInteger) return static_cast<int64_t>(number);
      } else if (value.IsString()) {
        const auto named = namedInts().find(value.As<Napi::String>().Utf8Value());
        if (named != namedInts().end()) return named->second;
      }
      break;
    case Kind::Float:
      if (value.IsNumber()) return value.As<Napi::Number>().DoubleValue();
      break;
    case Kind::Bool:
      if (value.IsBoolean()) return value.As<Napi::Boolean>().Value();
      break;
    case Kind::Scalar:
      if (value.IsBoolean()) return at::Scalar(value.As<Napi::Boolean>().Value());
      if (value.IsNumber()) {
        const double number = value.As<Napi::Number>().DoubleValue();
        // JavaScript has only one type of number. A whole number is passed as an integer, so that integer tensors stay so.
        if (number == std::floor(number) && std::abs(number) <= kMaxSafeInteger)
          return at::Scalar(static_cast<int64_t>(number));
        return at::Scalar(number);
      }
      break;
    case Kind::String:
      if (value.IsString()) return value.As<Napi::String>().Utf8Value();
      break;
    case Kind::Device:
      if (value.IsString()) return c10::Device(value.As<Napi::String>().Utf8Value());
      break;
    case Kind::Generator:
      if (value.IsNumber())
        if (at::Generator* generator = addon.generators.find(value.As<Napi::Number>().DoubleValue())) return *generator;
      break;
    case Kind::List: break;
  }
  mismatch(env, argument, kind, value);
}

template <typename T, typename Get>
c10::IValue toList(const Napi::Array& array, Get get) {
  const uint32_t length = array.Length();
  c10::List<T> list;
  list.reserve(length);
  for (uint32_t i = 0; i < length; i++) list.push_back(get(array.Get(i)));
  return list;
}

c10::IValue toListValue(Napi::Env env, Addon& addon, const Napi::Value& value, const Argument& argument) {
  const auto element = [&](const Napi::Value& item) { return toElement(env, addon, item, argument, argument.element); };
  if (!value.IsArray()) {
    if (argument.element != Kind::Int || !value.IsNumber()) mismatch(env, argument, Kind::List, value);
    return c10::List<int64_t>(std::vector<int64_t>(std::max(argument.length, 1), element(value).toInt()));
  }
  const Napi::Array array = value.As<Napi::Array>();
  switch (argument.element) {
    case Kind::Int: return toList<int64_t>(array, [&](const Napi::Value& item) { return element(item).toInt(); });
    case Kind::Float: return toList<double>(array, [&](const Napi::Value& item) { return element(item).toDouble(); });
    case Kind::Bool: return toList<bool>(array, [&](const Napi::Value& item) { return element(item).toBool(); });
    case Kind::Scalar: return toList<at::Scalar>(array, [&](const Napi::Value& item) { return element(item).toScalar(); });
    case Kind::Tensor:
      if (argument.elementOptional)
        return toList<c10::optional<at::Tensor>>(array, [&](const Napi::Value& item) {
          return item.IsNull() ? c10::optional<at::Tensor>() : c10::optional<at::Tensor>(element(item).toTensor());
        });
      return toList<at::Tensor>(array, [&](const Napi::Value& item) { return element(item).toTensor(); });
    default: mismatch(env, argument, Kind::List, value);
  }
}

}  // namespace

void checkReturn(const c10::Argument& result) {
  c10::TypePtr type = result.type();
  if (const auto list = type->cast<c10::ListType>()) type = list->getElementType();
  if (const auto optional = type->cast<c10::OptionalType>()) type = optional->getElementType();
  switch (kindOf(type, "result")) {
    case Kind::Tensor:
    case Kind::Int:
    case Kind::Float:
    case Kind::Bool:
    case Kind::Scalar: return;
    default: TORCH_CHECK(false, "a result of the type ", type->str(), " cannot go to JS");
  }
}

Argument describeArgument(const c10::Argument& argument) {
  Argument result;
  result.name = argument.name();
  c10::TypePtr type = argument.type();
  if (const auto optional = type->cast<c10::OptionalType>()) {
    result.optional = true;
    type = optional->getElementType();
  }
  result.kind = kindOf(type, result.name);
  if (result.kind == Kind::List) {
    c10::TypePtr element = type->expect<c10::ListType>()->getElementType();
    if (const auto optional = element->cast<c10::OptionalType>()) {
      result.elementOptional = true;
      element = optional->getElementType();
    }
    result.element = kindOf(element, result.name);
    result.length = argument.N() ? *argument.N() : 0;
  }
  if (argument.default_value()) {
    result.hasDefault = true;
    result.fallback = *argument.default_value();
  } else if (result.optional) {
    result.hasDefault = true;
  }
  return result;
}

c10::IValue toIValue(Napi::Env env, Addon& addon, napi_value raw, const Argument& argument) {
  const Napi::Value value(env, raw);
  if (value.IsUndefined() && argument.hasDefault) return argument.fallback;
  if (value.IsNull() && argument.optional) return c10::IValue();
  if (argument.kind == Kind::List) return toListValue(env, addon, value, argument);
  return toElement(env, addon, value, argument, argument.kind);
}

Napi::Value fromIValue(Napi::Env env, Addon& addon, const c10::IValue& value) {
  if (value.isTensor()) {
    const at::Tensor& tensor = value.toTensor();
    return tensor.defined() ? Napi::Number::New(env, addon.tensors.add(tensor)) : env.Null();
  }
  if (value.isInt()) return Napi::Number::New(env, static_cast<double>(value.toInt()));
  if (value.isDouble()) return Napi::Number::New(env, value.toDouble());
  if (value.isBool()) return Napi::Boolean::New(env, value.toBool());
  if (value.isNone()) return env.Null();
  if (value.isList()) {
    const auto list = value.toListRef();
    Napi::Array array = Napi::Array::New(env, list.size());
    for (size_t i = 0; i < list.size(); i++) array[static_cast<uint32_t>(i)] = fromIValue(env, addon, list[i]);
    return array;
  }
  TORCH_CHECK(false, "a result of the type ", value.tagKind(), " cannot go to JS");
}

Napi::Array toArray(Napi::Env env, c10::IntArrayRef values) {
  Napi::Array array = Napi::Array::New(env, values.size());
  for (size_t i = 0; i < values.size(); i++)
    array[static_cast<uint32_t>(i)] = Napi::Number::New(env, static_cast<double>(values[i]));
  return array;
}

at::Tensor& Addon::tensor(const Napi::Value& value) {
  at::Tensor* tensor = value.IsNumber() ? tensors.find(value.As<Napi::Number>().DoubleValue()) : nullptr;
  if (tensor == nullptr) throw Napi::TypeError::New(value.Env(), "Expected a live Tensor but this one was disposed already");
  return *tensor;
}
