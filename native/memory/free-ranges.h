// The free parts of mapped memory, by size and by address. A request takes the start of the smallest range that holds it, and a
// freed range joins its free neighbours: blocks of all sizes reuse the same pages, so that little more is mapped than is in use.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <set>
#include <utility>

class FreeRanges {
 public:
  size_t bytes() const { return bytes_; }

  // Returns nullptr where no range is long enough.
  char* take(size_t size) {
    const auto best = bySize_.lower_bound({size, nullptr});
    if (best == bySize_.end()) return nullptr;
    const auto [length, data] = *best;
    erase(data, length);
    if (length > size) insert(data + size, length - size);
    return data;
  }

  void add(char* data, size_t size) {
    auto next = byAddress_.lower_bound(data);
    if (next != byAddress_.end() && next->first == data + size) {
      const auto [following, length] = *next;
      erase(following, length);
      size += length;
    }
    next = byAddress_.lower_bound(data);
    if (next != byAddress_.begin()) {
      const auto [preceding, length] = *std::prev(next);
      if (preceding + length == data) {
        erase(preceding, length);
        data = preceding;
        size += length;
      }
    }
    insert(data, size);
  }

  // Removes about `wanted` bytes in whole pages, from the longest ranges, and calls `unmap(data, size)` for each piece. Parts of
  // pages stay: the kernel frees a page only when all of it is unmapped.
  template <typename Unmap>
  void remove(size_t wanted, size_t page, Unmap unmap) {
    auto longest = bySize_.end();
    while (wanted > 0 && longest != bySize_.begin()) {
      --longest;
      const auto [length, data] = *longest;
      if (length < page) return;
      const size_t before = (page - reinterpret_cast<uintptr_t>(data) % page) % page;
      const size_t whole = length > before ? (length - before) / page * page : 0;
      if (whole == 0) continue;
      // The end of the range, so that what is left is in one piece where its start is.
      const size_t cut = std::min(whole, (wanted + page - 1) / page * page);
      char* const from = data + before + whole - cut;
      const size_t after = static_cast<size_t>(data + length - (from + cut));
      erase(data, length);
      if (from > data) insert(data, static_cast<size_t>(from - data));
      if (after > 0) insert(from + cut, after);
      unmap(from, cut);
      wanted -= std::min(wanted, cut);
      longest = bySize_.end();
    }
  }

 private:
  void insert(char* data, size_t size) {
    byAddress_.emplace(data, size);
    bySize_.emplace(size, data);
    bytes_ += size;
  }

  void erase(char* data, size_t size) {
    byAddress_.erase(data);
    bySize_.erase({size, data});
    bytes_ -= size;
  }

  std::map<char*, size_t> byAddress_;
  std::set<std::pair<size_t, char*>> bySize_;
  size_t bytes_ = 0;
};
