// How much of a control group's memory is in use (Linux).
#pragma once

#include <cstddef>
#include <string>

struct GroupUsage {
  static constexpr size_t kUnlimited = ~size_t(0);

  size_t limit = kUnlimited;
  std::string usageFile;  // one number: bytes
  std::string statFile;   // lines of a name and a number

  // Bytes that the kernel cannot take back; pages of files do not count. 0 where the files cannot be read.
  size_t bytesInUse() const;
};
