// The memory usage of a control group (Linux).
#pragma once

#include <cstddef>
#include <string>

struct GroupUsage {
  static constexpr size_t kUnlimited = ~size_t(0);

  size_t limit = kUnlimited;
  std::string usageFile;  // one number: bytes
  std::string statFile;   // lines of a name and a number

  // Returns the bytes that the kernel cannot reclaim, so without pages of files; 0 if the files cannot be read.
  size_t bytesInUse() const;
};
