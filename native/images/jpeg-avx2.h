#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/for-each-cpu.h"

#if HAS_AVX2_CODE
namespace jpeg {

// As inverseDct for blocks at full size.
void inverseDctAvx2(const int16_t* coefficients, uint8_t* out, size_t stride);

// Converts the first pixels of a row, a multiple of 16, and returns their number.
size_t toRgbAvx2(const uint8_t* luma, const uint8_t* blue, const uint8_t* red, size_t width, uint8_t* out);

}  // namespace jpeg
#endif
