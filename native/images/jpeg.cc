// A JPEG's planes to RGB: chroma to the size of luma, and both to colours.
#include "images/jpeg.h"
#include "images/jpeg-avx2.h"
#include "kernels/for-each-cpu.h"

#include <algorithm>

namespace jpeg {

namespace {

constexpr int kBits = 16;
constexpr size_t kKeptPixels = 4 << 20;

// Writes a row of RGB. The factors are those of JFIF in 16 fractional bits.
FOR_EACH_CPU
void toRgbAny(const uint8_t* __restrict luma, const uint8_t* __restrict blue, const uint8_t* __restrict red, size_t width,
           uint8_t* __restrict out) {
  const auto clip = [](int32_t value) { return static_cast<uint8_t>(std::min(std::max(value, 0), 255)); };
  constexpr int32_t half = 1 << (kBits - 1);
  for (size_t x = 0; x < width; x++) {
    const int32_t y = luma[x], cb = blue[x] - 128, cr = red[x] - 128;
    out[3 * x] = clip(y + ((91881 * cr + half) >> kBits));
    out[3 * x + 1] = clip(y + ((-22554 * cb - 46802 * cr + half) >> kBits));
    out[3 * x + 2] = clip(y + ((116130 * cb + half) >> kBits));
  }
}

void toRgb(const uint8_t* luma, const uint8_t* blue, const uint8_t* red, size_t width, uint8_t* out) {
  size_t done = 0;
#if HAS_AVX2_CODE
  if (hasAvx2()) done = toRgbAvx2(luma, blue, red, width, out);
#endif
  toRgbAny(luma + done, blue + done, red + done, width - done, out + 3 * done);
}

FOR_EACH_CPU
void greyToRgb(const uint8_t* __restrict grey, size_t width, uint8_t* __restrict out) {
  for (size_t x = 0; x < width; x++) out[3 * x] = out[3 * x + 1] = out[3 * x + 2] = grey[x];
}

// Doubles a row's width: each sample becomes two, of 3/4 of itself and 1/4 of the neighbour on that side. `sums` are samples
// times kScale, and the halves are rounded down on the left and up on the right, or the other way round.
template <typename Sum, int kShift, int kLeft, int kRight>
inline __attribute__((always_inline)) void widen(const Sum* __restrict sums, size_t count, uint8_t* __restrict out) {
  const auto at = [&](size_t i) { return static_cast<int>(sums[i]); };
  out[0] = static_cast<uint8_t>((at(0) * 4 + kLeft) >> kShift);
  out[1] = static_cast<uint8_t>((at(0) * 3 + at(1) + kRight) >> kShift);
  for (size_t i = 1; i + 1 < count; i++) {
    out[2 * i] = static_cast<uint8_t>((at(i) * 3 + at(i - 1) + kLeft) >> kShift);
    out[2 * i + 1] = static_cast<uint8_t>((at(i) * 3 + at(i + 1) + kRight) >> kShift);
  }
  const size_t last = count - 1;
  out[2 * last] = static_cast<uint8_t>((at(last) * 3 + at(last - 1) + kLeft) >> kShift);
  out[2 * last + 1] = static_cast<uint8_t>((at(last) * 4 + kRight) >> kShift);
}

FOR_EACH_CPU
void widenRow(const uint8_t* __restrict row, size_t count, uint8_t* __restrict out) {
  widen<uint8_t, 2, 1, 2>(row, count, out);
}

// The same from two rows: 3/4 of the near one and 1/4 of the far one.
FOR_EACH_CPU
void widenRows(const uint8_t* __restrict near, const uint8_t* __restrict far, size_t count, uint16_t* __restrict sums,
               uint8_t* __restrict out) {
  for (size_t i = 0; i < count; i++) sums[i] = static_cast<uint16_t>(3 * near[i] + far[i]);
  widen<uint16_t, 4, 8, 7>(sums, count, out);
}

void repeatRow(const uint8_t* row, size_t count, uint8_t* out) {
  for (size_t i = 0; i < count; i++) out[2 * i] = out[2 * i + 1] = row[i];
}

// The rows of a plane at the size of the image.
class Rows {
 public:
  // `isWide` and `isHigh`: whether the image is twice as wide and as high as the plane.
  Rows(const Plane& plane, bool isWide, bool isHigh, bool isSmooth)
      : plane_(plane), isWide_(isWide), isHigh_(isHigh), isSmooth_(isSmooth && plane.width > 2) {
    if (isWide_) row_.resize(2 * plane.width);
    if (isHigh_) sums_.resize(plane.width);
  }

  const uint8_t* at(size_t y) {
    if (!isWide_) return sourceRow(y);
    if (!isHigh_ && isSmooth_) widenRow(sourceRow(y), plane_.width, row_.data());
    else if (!isSmooth_) repeatRow(sourceRow(isHigh_ ? y / 2 : y), plane_.width, row_.data());
    else {
      const size_t near = y / 2, last = plane_.height - 1;
      const size_t far = y % 2 == 0 ? (near == 0 ? 0 : near - 1) : std::min(near + 1, last);
      widenRows(sourceRow(near), sourceRow(far), plane_.width, sums_.data(), row_.data());
    }
    return row_.data();
  }

 private:
  const uint8_t* sourceRow(size_t y) const { return plane_.samples.data() + y * plane_.stride; }

  const Plane& plane_;
  bool isWide_, isHigh_, isSmooth_;
  std::vector<uint8_t> row_;
  std::vector<uint16_t> sums_;
};

}  // namespace

bool decode(const Header& header, int shrink, uint8_t* rgb) {
  thread_local Plane kept[3];
  Plane ownPlanes[3];
  // A thread lives as long as the process: it does not keep the memory of a large image.
  Plane(&planes)[3] = header.width * header.height > kKeptPixels ? ownPlanes : kept;
  const int side = 8 / shrink;
  for (Plane& plane : planes) plane.side = side;
  // Chroma of half the size needs no shrinking by the first factor of two.
  if (shrink > 1 && header.components == 3 && header.component[0].vertical == 2) planes[1].side = planes[2].side = 2 * side;
  if (!decodePlanes(header, planes)) return false;
  const size_t by = static_cast<size_t>(shrink);
  const size_t width = (header.width + by - 1) / by, height = (header.height + by - 1) / by;
  const auto out = [&](size_t y) { return rgb + 3 * width * y; };
  if (header.components == 1) {
    for (size_t y = 0; y < height; y++) greyToRgb(planes[0].samples.data() + y * planes[0].stride, width, out(y));
    return true;
  }
  const auto rowsOf = [&](int i) {
    const bool isWide = header.component[0].horizontal * side > header.component[i].horizontal * planes[i].side;
    const bool isHigh = header.component[0].vertical * side > header.component[i].vertical * planes[i].side;
    return Rows(planes[i], isWide, isHigh, side > 1);
  };
  Rows luma = rowsOf(0), blue = rowsOf(1), red = rowsOf(2);
  for (size_t y = 0; y < height; y++) toRgb(luma.at(y), blue.at(y), red.at(y), width, out(y));
  return true;
}

}  // namespace jpeg
