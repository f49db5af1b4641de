// The markers of a JPEG before its data.
#include "images/jpeg.h"

#include <algorithm>
#include <cstring>

namespace jpeg {

namespace {

// A segment's content.
struct Segment {
  const uint8_t *at, *end;
  size_t left() const { return static_cast<size_t>(end - at); }
  int byte() { return *at++; }
  int word() {
    at += 2;
    return at[-2] << 8 | at[-1];
  }
};

bool readQuantization(Segment segment, Header& header) {
  while (segment.left() > 0) {
    const int which = segment.byte();
    // 16-bit tables belong to 12-bit images.
    if (which > 3 || segment.left() < 64) return false;
    for (uint16_t& step : header.quantization[which]) step = static_cast<uint16_t>(segment.byte());
    header.hasQuantization[which] = true;
  }
  return true;
}

// Fills the table of the codes that are short enough, T.81 annex C and F.2.2.3.
bool build(Huffman& table, const uint8_t* counts, bool isAc) {
  std::memset(table.fast, 0, sizeof table.fast);
  int code = 0, symbol = 0;
  for (int bits = 1; bits <= 16; bits++) {
    // More codes than there are of this length.
    if (code + counts[bits - 1] > 1 << bits) return false;
    table.offset[bits] = symbol - code;
    for (int i = 0; i < counts[bits - 1]; i++, code++, symbol++) {
      // The symbol of a DC coefficient is a length alone.
      if (!isAc && table.symbols[symbol] > 15) return false;
      if (bits > kFastBits) continue;
      const int free = kFastBits - bits;
      std::fill_n(table.fast + (code << free), 1 << free, entryOf(table.symbols[symbol], bits));
    }
    table.limit[bits] = static_cast<uint32_t>(code) << (16 - bits);
    code <<= 1;
  }
  table.isDefined = true;
  return true;
}

bool readHuffman(Segment segment, Header& header) {
  while (segment.left() > 0) {
    const int which = segment.byte();
    if ((which & 0xEF) > 3 || segment.left() < 16) return false;
    const uint8_t* counts = segment.at;
    segment.at += 16;
    size_t total = 0;
    for (int i = 0; i < 16; i++) total += counts[i];
    Huffman& table = which & 0x10 ? header.ac[which & 3] : header.dc[which & 3];
    if (total > 256 || segment.left() < total) return false;
    std::memset(table.symbols, 0, sizeof table.symbols);
    std::memcpy(table.symbols, segment.at, total);
    segment.at += total;
    if (!build(table, counts, which & 0x10)) return false;
  }
  return true;
}

bool readFrame(Segment segment, Header& header) {
  if (header.components != 0 || segment.left() < 6 || segment.byte() != 8) return false;
  header.height = static_cast<size_t>(segment.word());
  header.width = static_cast<size_t>(segment.word());
  header.components = segment.byte();
  if (header.width == 0 || header.height == 0) return false;
  if ((header.components != 1 && header.components != 3) || segment.left() != 3 * static_cast<size_t>(header.components)) return false;
  for (int i = 0; i < header.components; i++) {
    Component& component = header.component[i];
    component.id = segment.byte();
    const int sampling = segment.byte();
    component.horizontal = sampling >> 4;
    component.vertical = sampling & 15;
    component.quantization = segment.byte();
    if (component.quantization > 3) return false;
  }
  Component(&c)[3] = header.component;
  if (header.components == 1) {
    // A single component is not interleaved: its factors have no effect.
    c[0].horizontal = c[0].vertical = 1;
    return true;
  }
  const int h = c[0].horizontal, v = c[0].vertical;
  const bool isKnown = (h == 1 && v == 1) || (h == 2 && v == 1) || (h == 2 && v == 2);
  return isKnown && c[1].horizontal == 1 && c[1].vertical == 1 && c[2].horizontal == 1 && c[2].vertical == 1;
}

bool readScan(Segment segment, Header& header) {
  if (header.components == 0 || segment.left() != 4 + 2 * static_cast<size_t>(header.components)) return false;
  if (segment.byte() != header.components) return false;
  for (int i = 0; i < header.components; i++) {
    Component& component = header.component[i];
    if (segment.byte() != component.id) return false;
    const int tables = segment.byte();
    component.dc = tables >> 4;
    component.ac = tables & 15;
    if (component.dc > 3 || component.ac > 3) return false;
    if (!header.dc[component.dc].isDefined || !header.ac[component.ac].isDefined) return false;
    if (!header.hasQuantization[component.quantization]) return false;
  }
  return segment.byte() == 0 && segment.byte() == 63 && segment.byte() == 0;
}

}  // namespace

bool readHeader(const uint8_t* bytes, size_t size, Header& header) {
  if (size < 4 || bytes[0] != 0xFF || bytes[1] != 0xD8) return false;
  bool isJfif = false;
  int adobe = -1;
  for (size_t at = 2;;) {
    if (at + 4 > size || bytes[at] != 0xFF) return false;
    const int marker = bytes[at + 1];
    if (marker == 0xFF) {
      at++;
      continue;
    }
    const size_t length = static_cast<size_t>(bytes[at + 2] << 8 | bytes[at + 3]);
    if (length < 2 || at + 2 + length > size) return false;
    Segment segment{bytes + at + 4, bytes + at + 2 + length};
    at += 2 + length;
    if (marker == 0xDB) {
      if (!readQuantization(segment, header)) return false;
    } else if (marker == 0xC4) {
      if (!readHuffman(segment, header)) return false;
    } else if (marker == 0xC0 || marker == 0xC1) {
      if (!readFrame(segment, header)) return false;
    } else if (marker == 0xDD) {
      if (segment.left() != 2) return false;
      header.restartInterval = segment.word();
    } else if (marker == 0xDA) {
      if (!readScan(segment, header)) return false;
      header.data = segment.end;
      header.end = bytes + size;
      break;
    } else if (marker == 0xE0) {
      isJfif = isJfif || (segment.left() >= 14 && std::memcmp(segment.at, "JFIF", 5) == 0);
    } else if (marker == 0xEE) {
      if (segment.left() >= 12 && std::memcmp(segment.at, "Adobe", 5) == 0) adobe = segment.at[11];
    } else if (marker != 0xFE && (marker < 0xE1 || marker > 0xEF)) {
      return false;
    }
  }
  // Which three components these are: by JFIF, else by Adobe's marker, else by their numbers.
  if (header.components == 1) return true;
  const Component(&c)[3] = header.component;
  const bool areNumbered = c[0].id == 1 && c[1].id == 2 && c[2].id == 3;
  return adobe < 0 ? isJfif || areNumbered : adobe == 1;
}

}  // namespace jpeg
