// Checks arguments from JavaScript: a wrong one is an error with its name, never undefined behaviour.
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/ATen.h>
#include <napi.h>

// Whole numbers up to this one are exact in JavaScript.
constexpr double kMaxSafeInteger = 9007199254740991.0;

// Each throws a TypeError with the name of the argument, what was expected and what was received.
int64_t integerArgument(const Napi::Value& value, const char* name, double least, double most);
at::ScalarType dtypeArgument(const Napi::Value& value);
std::vector<int64_t> shapeArgument(const Napi::Value& value);
std::string stringArgument(const Napi::Value& value, const char* name);
Napi::Array arrayArgument(const Napi::Value& value, const char* name);
Napi::Uint8Array bytesArgument(const Napi::Value& value, const char* name);
Napi::Int32Array int32ArrayArgument(const Napi::Value& value, const char* name);

// Returns the value as it is shown in errors.
std::string describeValue(const Napi::Value& value);
