#include "images/jpeg.h"

#ifdef IP_ADAPTER_LIBJPEG
#include <csetjmp>
#include <cstdio>
// It uses size_t and FILE without including their headers.
#include <jpeglib.h>
#ifndef LIBJPEG_TURBO_VERSION
#error "Expected the headers of libjpeg-turbo: other libraries of this name round otherwise"
#endif

#define IP_ADAPTER_TEXT(name) #name
#define IP_ADAPTER_VALUE(name) IP_ADAPTER_TEXT(name)

namespace jpeg {

namespace {

// The library reports a fault by a call that must not return, and a smaller one by a warning. Both end the decoding.
struct Faults {
  jpeg_error_mgr manager;
  std::jmp_buf caller;
};

[[noreturn]] void leave(j_common_ptr info) { std::longjmp(reinterpret_cast<Faults*>(info->err)->caller, 1); }
void leaveAtWarning(j_common_ptr info, int level) {
  if (level < 0) leave(info);
}
void keepSilent(j_common_ptr) {}

jpeg_error_mgr* faultsOf(Faults& faults) {
  jpeg_error_mgr* manager = jpeg_std_error(&faults.manager);
  manager->error_exit = leave;
  manager->emit_message = leaveAtWarning;
  manager->output_message = keepSilent;
  return manager;
}

// Creates the decoder and reads the markers before the data. Returns false for a file that is not of the usual kind.
bool begin(jpeg_decompress_struct& info, const uint8_t* bytes, size_t size) {
  jpeg_create_decompress(&info);
  jpeg_mem_src(&info, const_cast<uint8_t*>(bytes), static_cast<unsigned long>(size));
  if (jpeg_read_header(&info, TRUE) != JPEG_HEADER_OK) return false;
  const bool isKnownColour = info.jpeg_color_space == JCS_GRAYSCALE || info.jpeg_color_space == JCS_YCbCr;
  return isKnownColour && !info.progressive_mode && !info.arith_code && !jpeg_has_multiple_scans(&info);
}

// In the functions below, nothing that has a destructor lives between setjmp and a fault: longjmp runs none.

bool readSize(const uint8_t* bytes, size_t size, size_t& width, size_t& height) {
  jpeg_decompress_struct info{};
  Faults faults;
  info.err = faultsOf(faults);
  if (setjmp(faults.caller) != 0) {
    jpeg_destroy_decompress(&info);
    return false;
  }
  const bool isTaken = begin(info, bytes, size);
  width = info.image_width;
  height = info.image_height;
  jpeg_destroy_decompress(&info);
  return isTaken;
}

bool decodeRows(const Header& header, int shrink, uint8_t* rgb) {
  jpeg_decompress_struct info{};
  Faults faults;
  info.err = faultsOf(faults);
  if (setjmp(faults.caller) != 0) {
    jpeg_destroy_decompress(&info);
    return false;
  }
  bool isDecoded = begin(info, header.bytes, header.size) && info.image_width == header.width && info.image_height == header.height;
  if (isDecoded) {
    info.out_color_space = JCS_RGB;
    info.scale_num = 1;
    info.scale_denom = static_cast<unsigned int>(shrink);
    jpeg_start_decompress(&info);
    const size_t stride = 3 * static_cast<size_t>(info.output_width);
    while (info.output_scanline < info.output_height) {
      JSAMPROW row = rgb + info.output_scanline * stride;
      jpeg_read_scanlines(&info, &row, 1);
    }
    jpeg_finish_decompress(&info);
  }
  jpeg_destroy_decompress(&info);
  return isDecoded;
}

}  // namespace

const char* library() { return "libjpeg-turbo " IP_ADAPTER_VALUE(LIBJPEG_TURBO_VERSION); }

bool readHeader(const uint8_t* bytes, size_t size, Header& header) {
  header.bytes = bytes;
  header.size = size;
  return readSize(bytes, size, header.width, header.height);
}

bool decode(const Header& header, int shrink, uint8_t* rgb) { return decodeRows(header, shrink, rgb); }

}  // namespace jpeg

#else

namespace jpeg {

const char* library() { return nullptr; }
bool readHeader(const uint8_t*, size_t, Header&) { return false; }
bool decode(const Header&, int, uint8_t*) { return false; }

}  // namespace jpeg
#endif
