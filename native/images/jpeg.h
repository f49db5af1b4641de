// Decodes the usual kind of JPEG: baseline, Huffman codes, 8 bits, grey or YCbCr, in one scan, with chroma at full size (4:4:4)
// or at half the width (4:2:2) and height (4:2:0). Every byte is what libjpeg-turbo gives with its defaults (the accurate
// integer inverse DCT, triangle upsampling), and so what Pillow gives. Of any other file, and of one with the slightest fault,
// nothing is decoded: the caller reads it by a general library, which says what is wrong.
//
// The format: ITU-T T.81. The arithmetic to be equal to: libjpeg-turbo/libjpeg-turbo src/jidctint.c, jidctred.c, jdsample.c,
// jdcolor.c.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace jpeg {

constexpr int kFastBits = 11;

// What a code says: the run of zeros << 12 | the length of the value that follows it << 8 | bits of code and value together.
inline uint32_t entryOf(int symbol, int bits) {
  const int length = symbol & 15;
  return static_cast<uint32_t>((symbol >> 4) << 12 | length << 8 | (bits + length));
}

struct Huffman {
  // By the next kFastBits bits; 0: the code is longer, or there is none.
  uint32_t fast[1 << kFastBits];
  // By the length of codes: the first number of kFastBits + 1 … 16 bits, left-aligned in 16 bits, that belongs to a longer code.
  uint32_t limit[18];
  int32_t offset[17];
  uint8_t symbols[256];
  bool isDefined = false;
};

struct Component {
  int id, horizontal, vertical, quantization, dc, ac;
};

struct Header {
  size_t width = 0, height = 0;
  // 1 or 3.
  int components = 0;
  Component component[3];
  // In the order of the file (zigzag).
  uint16_t quantization[4][64];
  bool hasQuantization[4] = {};
  Huffman dc[4], ac[4];
  // The number of MCUs between restart markers; 0: there are none.
  int restartInterval = 0;
  // The entropy-coded data, to the end of the file.
  const uint8_t *data = nullptr, *end = nullptr;
};

// Reads the markers before the data. Returns false for a file that this decoder does not take.
bool readHeader(const uint8_t* bytes, size_t size, Header& header);

// Coefficients to samples: of a plane per component, every block at `side` × `side` samples.
struct Plane {
  std::vector<uint8_t> samples;
  // Samples from one row to the next, and the part of them that belongs to the image.
  size_t stride = 0, width = 0, height = 0;
  // 8, 4, 2 or 1.
  int side = 8;
};

// Decodes all blocks. Returns false at the slightest fault.
bool decodePlanes(const Header& header, Plane (&planes)[3]);

// Decodes to RGB at 1/shrink of the size, rounded up, of which `rgb` has room; `shrink` is 1, 2, 4 or 8. Returns false at the slightest fault.
bool decode(const Header& header, int shrink, uint8_t* rgb);

// Computes a block's samples from its dequantized coefficients in natural order.
void inverseDct(const int16_t* coefficients, int side, uint8_t* out, size_t stride);

}  // namespace jpeg
