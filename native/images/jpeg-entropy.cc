// The coefficients of a JPEG: bits to blocks.
#include "images/jpeg.h"
#include "kernels/for-each-cpu.h"

#include <cstring>

namespace jpeg {

namespace {

#define INLINE inline __attribute__((always_inline))

// By the order in the file: the place in an 8 × 8 block.
constexpr uint8_t kZigzag[64] = {0,  1,  8,  16, 9,  2,  3,  10, 17, 24, 32, 25, 18, 11, 4,  5,  12, 19, 26, 33, 40, 48,
                                 41, 34, 27, 20, 13, 6,  7,  14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23,
                                 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63};

// A block has at most 64 coefficients of 31 bits, and an MCU 6 blocks; with the 8 bytes that are loaded ahead, this many bytes
// may be read past the data before it is noticed.
constexpr size_t kMargin = 6 * 64 * 4 + 8;

// The entropy-coded data without stuffed zeros and markers, and the end of each part between restart markers.
struct Clean {
  std::vector<uint8_t> bytes;
  std::vector<size_t> ends;
};

// Returns false where the data ends without the marker for that, or restart markers are not in their order.
bool clean(const uint8_t* at, const uint8_t* end, Clean& result) {
  result.bytes.resize(static_cast<size_t>(end - at) + kMargin);
  result.ends.clear();
  uint8_t* out = result.bytes.data();
  for (;;) {
    const auto* marker = static_cast<const uint8_t*>(std::memchr(at, 0xFF, static_cast<size_t>(end - at)));
    if (marker == nullptr || marker + 1 == end) return false;
    const size_t length = static_cast<size_t>(marker - at);
    std::memcpy(out, at, length);
    out += length;
    at = marker + 2;
    if (marker[1] == 0) {
      *out++ = 0xFF;
      continue;
    }
    const bool isLast = marker[1] == 0xD9;
    if (!isLast && marker[1] != 0xD0 + result.ends.size() % 8) return false;
    result.ends.push_back(static_cast<size_t>(out - result.bytes.data()));
    if (isLast) break;
  }
  std::memset(out, 0, kMargin);
  return true;
}

// The next bits, left-aligned, of which `count` have not been read.
struct Bits {
  const uint8_t* at;
  uint64_t buffer = 0;
  int count = 0;

  // To at least 56 bits.
  INLINE void refill() {
    uint64_t next;
    std::memcpy(&next, at, 8);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    next = __builtin_bswap64(next);
#endif
    buffer |= next >> count;
    at += (63 - count) >> 3;
    count |= 56;
  }
  INLINE uint32_t peek(int bits) const { return static_cast<uint32_t>(buffer >> (64 - bits)); }
  INLINE void skip(int bits) {
    buffer <<= bits;
    count -= bits;
  }
};

// Finds the code that is longer than kFastBits at the start of 16 bits. Returns its entry, 0 where there is none.
__attribute__((noinline)) uint32_t longCode(uint32_t next, const Huffman& table) {
  for (int length = kFastBits + 1; length <= 16; length++) {
    if (next >= table.limit[length]) continue;
    const int index = static_cast<int>(next >> (16 - length)) + table.offset[length];
    return index < 0 || index > 255 ? 0 : entryOf(table.symbols[index], length);
  }
  return 0;
}

// A code's run, and the value that follows it, 0 for none.
struct Coefficient {
  int value, run;
};

// Reads a coefficient. The run is -1 where there is no such code.
INLINE Coefficient readCoefficient(Bits& bits, const Huffman& table) {
  if (bits.count < 32) bits.refill();
  uint32_t entry = table.fast[bits.peek(kFastBits)];
  if (__builtin_expect(entry == 0, 0)) {
    entry = longCode(bits.peek(16), table);
    if (entry == 0) return {0, -1};
  }
  const int length = entry >> 8 & 15, all = entry & 0xFF;
  // The value ends with the last of all bits. One that begins with 0 is negative. No branches: none could be predicted.
  const int value = static_cast<int>((bits.buffer << (all - length)) >> 1 >> (63 - length));
  bits.skip(all);
  const int isNegative = value < (1 << length >> 1);
  return {value + (-isNegative & (1 - (1 << length))), static_cast<int>(entry >> 12)};
}

INLINE int16_t dequantized(int value, int step) { return static_cast<int16_t>(value * step); }

// Reads a block of dequantized coefficients, which is zero before. Returns the last place that is not zero, -1 for a fault.
INLINE int readBlock(Bits& bits, const Huffman& dc, const Huffman& ac, const uint16_t* quantization, int& last, int16_t* block) {
  const Coefficient difference = readCoefficient(bits, dc);
  if (difference.run < 0) return -1;
  last += difference.value;
  // Values of 8-bit samples are far inside; more would overflow in the end.
  if (last < -32768 || last > 32767) return -1;
  block[0] = dequantized(last, quantization[0]);
  int end = 0;
  for (int k = 1; k < 64; k++) {
    const Coefficient next = readCoefficient(bits, ac);
    k += next.run;
    if (next.value == 0) {
      if (next.run == 0) break;
      if (next.run != 15) return -1;
      continue;
    }
    if (k > 63) return -1;
    block[kZigzag[k]] = dequantized(next.value, quantization[k]);
    end = k;
  }
  return end;
}

inline void fill(uint8_t* out, size_t stride, int side, uint8_t value) {
  for (int y = 0; y < side; y++) std::memset(out + static_cast<size_t>(y) * stride, value, static_cast<size_t>(side));
}

inline uint8_t sampleOfDc(int dc) {
  const int value = ((dc + 4) >> 3) + 128;
  return static_cast<uint8_t>(value < 0 ? 0 : value > 255 ? 255 : value);
}

INLINE bool decodeBlocks(const Header& header, Plane (&planes)[3], size_t columns, size_t rows) {
  thread_local Clean data;
  if (!clean(header.data, header.end, data)) return false;
  const size_t interval = header.restartInterval > 0 ? static_cast<size_t>(header.restartInterval) : rows * columns;
  if (data.ends.size() != (rows * columns + interval - 1) / interval) return false;
  const uint8_t* bytes = data.bytes.data();
  Bits bits{bytes};
  int last[3] = {};
  alignas(32) int16_t block[64] = {};
  size_t mcu = 0;
  for (size_t row = 0; row < rows; row++)
    for (size_t column = 0; column < columns; column++) {
      for (int i = 0; i < header.components; i++) {
        const Component& component = header.component[i];
        const Huffman &dc = header.dc[component.dc], &ac = header.ac[component.ac];
        const uint16_t* quantization = header.quantization[component.quantization];
        Plane& plane = planes[i];
        const size_t h = static_cast<size_t>(component.horizontal), v = static_cast<size_t>(component.vertical);
        const size_t side = static_cast<size_t>(plane.side);
        for (size_t y = 0; y < v; y++)
          for (size_t x = 0; x < h; x++) {
            Bits local = bits;
            const int end = readBlock(local, dc, ac, quantization, last[i], block);
            bits = local;
            if (end < 0) return false;
            uint8_t* out = plane.samples.data() + (row * v + y) * side * plane.stride + (column * h + x) * side;
            if (end == 0) {
              fill(out, plane.stride, plane.side, sampleOfDc(block[0]));
              block[0] = 0;
            } else {
              inverseDct(block, plane.side, out, plane.stride);
              std::memset(block, 0, sizeof block);
            }
          }
      }
      // The place of the first bit that has not been read; fewer than 8 bits may be left at the end of a part.
      const int64_t place = 8 * (bits.at - bytes) - bits.count, end = 8 * static_cast<int64_t>(data.ends[mcu / interval]);
      mcu++;
      const bool isLastOfPart = mcu % interval == 0 || mcu == rows * columns;
      if (place > end || (isLastOfPart && end - place >= 8)) return false;
      if (!isLastOfPart) continue;
      bits = Bits{bytes + data.ends[(mcu - 1) / interval]};
      last[0] = last[1] = last[2] = 0;
    }
  return true;
}

#if HAS_AVX2_CODE
// With BMI2, whose shifts by a variable number are three times as fast.
WITH_AVX2 bool decodeBlocksAvx2(const Header& header, Plane (&planes)[3], size_t columns, size_t rows) {
  return decodeBlocks(header, planes, columns, rows);
}
#endif

}  // namespace

bool decodePlanes(const Header& header, Plane (&planes)[3]) {
  const int across = header.component[0].horizontal, down = header.component[0].vertical;
  const size_t mcuWidth = 8 * static_cast<size_t>(across), mcuHeight = 8 * static_cast<size_t>(down);
  const size_t columns = (header.width + mcuWidth - 1) / mcuWidth, rows = (header.height + mcuHeight - 1) / mcuHeight;
  for (int i = 0; i < header.components; i++) {
    Plane& plane = planes[i];
    const size_t h = static_cast<size_t>(header.component[i].horizontal), v = static_cast<size_t>(header.component[i].vertical);
    const size_t side = static_cast<size_t>(plane.side);
    plane.stride = columns * h * side;
    plane.samples.resize(plane.stride * rows * v * side);
    plane.width = (header.width * h * side + mcuWidth - 1) / mcuWidth;
    plane.height = (header.height * v * side + mcuHeight - 1) / mcuHeight;
  }
#if HAS_AVX2_CODE
  if (hasAvx2()) return decodeBlocksAvx2(header, planes, columns, rows);
#endif
  return decodeBlocks(header, planes, columns, rows);
}

}  // namespace jpeg
