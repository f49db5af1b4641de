// Decodes the usual kind of JPEG with libjpeg-turbo: baseline, 8 bits, grey or YCbCr, in one scan, so that memory is bounded by
// the image's width. Every byte is what Pillow gives, which has the same library and the same defaults. Of any other file, and of
// one with the slightest fault, nothing is decoded: the caller reads it by a general library, which says what is wrong.
#pragma once

#include <cstddef>
#include <cstdint>

namespace jpeg {

// A file in memory that outlives this.
struct Header {
  const uint8_t* bytes = nullptr;
  size_t size = 0, width = 0, height = 0;
};

// The library's name and version; null where the addon was built without it. Then readHeader takes no file.
const char* library();

// Reads the size. Returns false for a file that `decode` does not take.
bool readHeader(const uint8_t* bytes, size_t size, Header& header);

// Decodes to RGB at 1/shrink of the size, rounded up, of which `rgb` has room; `shrink` is 1, 2, 4 or 8. Returns false at the
// slightest fault.
bool decode(const Header& header, int shrink, uint8_t* rgb);

}  // namespace jpeg
