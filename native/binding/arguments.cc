#include "binding/arguments.h"

#include <cmath>
#include <sstream>

namespace {

[[noreturn]] void refuse(const Napi::Value& value, const std::string& name, const std::string& expected) {
  throw Napi::TypeError::New(value.Env(), "Expected " + name + " to be " + expected + " but received " + describeValue(value));
}

}  // namespace

std::string describeValue(const Napi::Value& value) {
  if (value.IsNull()) return "null";
  if (value.IsUndefined()) return "undefined";
  if (value.IsNumber()) return "the number " + value.ToString().Utf8Value();
  if (value.IsString()) return "'" + value.As<Napi::String>().Utf8Value() + "'";
  if (value.IsArray()) return "an array";
  if (value.IsTypedArray()) return "another kind of typed array";
  return "a value of another type";
}

int64_t integerArgument(const Napi::Value& value, const char* name, double least, double most) {
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : NAN;
  if (!(number >= least && number <= most) || number != std::floor(number)) {
    std::ostringstream expected;
    expected.precision(17);
    expected << "an integer from " << least << " to " << most;
    refuse(value, name, expected.str());
  }
  return static_cast<int64_t>(number);
}

at::ScalarType dtypeArgument(const Napi::Value& value) {
  const auto dtype = static_cast<at::ScalarType>(integerArgument(value, "the dtype code", 0, 15));
  switch (dtype) {
    case at::kByte:
    case at::kChar:
    case at::kShort:
    case at::kInt:
    case at::kLong:
    case at::kHalf:
    case at::kFloat:
    case at::kDouble:
    case at::kBool:
    case at::kBFloat16: return dtype;
    default: refuse(value, "the dtype code", "that of a real number, 0 to 7, 11 or 15");
  }
}

std::vector<int64_t> shapeArgument(const Napi::Value& value) {
  const Napi::Array array = arrayArgument(value, "the shape");
  std::vector<int64_t> shape(array.Length());
  for (uint32_t i = 0; i < array.Length(); i++) shape[i] = integerArgument(array.Get(i), "a size of the shape", 0, kMaxSafeInteger);
  return shape;
}

std::string stringArgument(const Napi::Value& value, const char* name) {
  if (!value.IsString()) refuse(value, name, "a string");
  return value.As<Napi::String>().Utf8Value();
}

Napi::Array arrayArgument(const Napi::Value& value, const char* name) {
  if (!value.IsArray()) refuse(value, name, "an array");
  return value.As<Napi::Array>();
}

Napi::Uint8Array bytesArgument(const Napi::Value& value, const char* name) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) refuse(value, name, "a Uint8Array");
  return value.As<Napi::Uint8Array>();
}

Napi::Int32Array int32ArrayArgument(const Napi::Value& value, const char* name) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_int32_array) refuse(value, name, "an Int32Array");
  return value.As<Napi::Int32Array>();
}
