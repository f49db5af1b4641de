// A caching CPU allocator. LibTorch's allocator returns every freed large block to the kernel, and then the page faults of
// the next step cost more than its arithmetic. This one keeps freed blocks: those of less than a huge page by size class, larger
// ones as ranges that join and split. It uses huge pages, and limits what it keeps. If a control group limits the memory of
// the process, it returns cached blocks before a new one would exceed that limit, because the kernel kills a process that does.
#include "binding/addon.h"
#include "binding/arguments.h"
#include "memory/free-ranges.h"
#include "memory/group-usage.h"

#include <c10/core/CPUAllocator.h>

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <unordered_map>

namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kCached = size_t(64) << 10;   // malloc handles smaller blocks well
constexpr size_t kHugePage = size_t(2) << 20;  // larger blocks are parts of ranges
constexpr size_t kRangeStep = size_t(64) << 10;

// A limit above the memory of any machine, below which sizes cannot overflow.
constexpr size_t kMaxBytes = size_t(1) << 47;
// At most this part of the usable memory is cached in free blocks.
constexpr size_t kKeptPart = 4;
// This part of a control group's limit stays free for memory that is not allocated here.
constexpr size_t kReservePart = 16;

size_t machineMemory() {
  return static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

// Eight classes for each power of two: at most an eighth of a block is wasted.
size_t sizeClass(size_t bytes) {
  size_t step = kCached / 8;
  while (step * 16 <= bytes) step *= 2;
  return (bytes + step - 1) / step * step;
}

class CachingCpuAllocator final : public c10::Allocator {
 public:
  // Whether LibTorch declares this function const depends on its version. One of the two overrides it.
  c10::DataPtr allocate(size_t bytes) const { return const_cast<CachingCpuAllocator*>(this)->take(bytes); }
  c10::DataPtr allocate(size_t bytes) { return take(bytes); }
  void copy_data(void* target, const void* source, std::size_t bytes) const { std::memcpy(target, source, bytes); }
  c10::DeleterFnPtr raw_deleter() const override { return &CachingCpuAllocator::release; }

  void setCacheLimit(size_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    cacheLimit_ = bytes;
    evict(cacheLimit_);
  }

  void setGroup(GroupUsage group) {
    const std::lock_guard<std::mutex> lock(mutex_);
    group_ = std::move(group);
    cacheLimit_ = std::min(machineMemory(), group_.limit) / kKeptPart;
    evict(cacheLimit_);
  }

  void trim() {
    const std::lock_guard<std::mutex> lock(mutex_);
    evict(0);
  }

  void resetPeak() {
    const std::lock_guard<std::mutex> lock(mutex_);
    peak_ = allocated_;
  }

  CpuMemory stats() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return {static_cast<int64_t>(allocated_), static_cast<int64_t>(cached()), static_cast<int64_t>(peak_)};
  }

  static CachingCpuAllocator& instance() {
    static CachingCpuAllocator* allocator = new CachingCpuAllocator();  // tensors may outlive static destructors
    return *allocator;
  }

 private:
  c10::DataPtr take(size_t bytes) {
    const c10::Device cpu(c10::kCPU);
    if (bytes == 0) return {nullptr, nullptr, &std::free, cpu};
    if (bytes < kCached) {
      void* data = nullptr;
      TORCH_CHECK(posix_memalign(&data, kAlignment, bytes) == 0, "out of memory: could not allocate ", bytes, " bytes");
      return {data, data, &std::free, cpu};
    }
    TORCH_CHECK(bytes < kMaxBytes, "out of memory: could not allocate ", bytes, " bytes on the CPU");
    void* data = takeLarge(bytes);
    return {data, data, &releaseLarge, cpu};
  }

  void* takeLarge(size_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    size_t size = bytes < kHugePage ? sizeClass(bytes) : (bytes + kRangeStep - 1) / kRangeStep * kRangeStep;
    void* data = size < kHugePage ? takeSmall(size) : ranges_.take(size);
    if (data == nullptr) {
      const size_t mapped = size < kHugePage ? size : (size + kHugePage - 1) / kHugePage * kHugePage;
      makeRoom(mapped);
      data = map(mapped);
      if (data == nullptr) {  // the cache may have taken the memory
        evict(0);
        data = map(mapped);
      }
      TORCH_CHECK(data != nullptr, "out of memory: could not allocate ", bytes, " bytes on the CPU (",
                  allocated_, " in use)");
      if (mapped > size) ranges_.add(static_cast<char*>(data) + size, mapped - size);
    }
    used_.emplace(data, size);
    allocated_ += size;
    peak_ = std::max(peak_, allocated_);
    return data;
  }

  // Takes the smallest cached block that fits, unless much of it would be unused; `size` becomes its size.
  void* takeSmall(size_t& size) {
    const auto kept = small_.lower_bound(size);
    if (kept == small_.end() || kept->first > size + size / 4) return nullptr;
    void* const data = kept->second;
    size = kept->first;
    smallBytes_ -= size;
    small_.erase(kept);
    return data;
  }

  // Caches a freed large block; returns false for other blocks.
  bool keep(void* data) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto used = used_.find(data);
    if (used == used_.end()) return false;
    const size_t size = used->second;
    used_.erase(used);
    allocated_ -= size;
    if (size < kHugePage) {
      small_.emplace(size, data);
      smallBytes_ += size;
    } else {
      ranges_.add(static_cast<char*>(data), size);
    }
    evict(cacheLimit_);
    return true;
  }

  // Returns cached blocks to the system until `bytes` more fit in the control group's limit. New blocks count as used, although
  // the kernel counts a page only at its first write.
  void makeRoom(size_t bytes) {
    const size_t kept = cached();
    if (group_.limit == GroupUsage::kUnlimited || kept == 0) return;
    const size_t used = std::max(group_.bytesInUse(), allocated_ + kept);
    const size_t wanted = used + bytes + group_.limit / kReservePart;
    if (wanted > group_.limit) evict(kept - std::min(kept, wanted - group_.limit));
  }

  size_t cached() const { return smallBytes_ + ranges_.bytes(); }

  // Largest first: those take the most memory.
  void evict(size_t limit) {
    if (cached() <= limit) return;
    ranges_.remove(cached() - limit, kHugePage, [](char* data, size_t size) { munmap(data, size); });
    while (cached() > limit && !small_.empty()) {
      const auto last = std::prev(small_.end());
      std::free(last->second);
      smallBytes_ -= last->first;
      small_.erase(last);
    }
  }

  void* map(size_t size) {
    if (size < kHugePage) {
      void* data = nullptr;
      return posix_memalign(&data, 4096, size) == 0 ? data : nullptr;
    }
    // Asks for the place after the last mapping, so that ranges of both can join.
    char* data = mapAnonymous(size, next_);
    if (data == nullptr) return nullptr;
    if (reinterpret_cast<uintptr_t>(data) % kHugePage != 0) {
      // Huge pages need alignment: map more than needed, and unmap both ends.
      munmap(data, size);
      char* const raw = mapAnonymous(size + kHugePage, nullptr);
      if (raw == nullptr) return nullptr;
      const size_t before = kHugePage - reinterpret_cast<uintptr_t>(raw) % kHugePage;
      data = raw + before;
      munmap(raw, before);
      if (before < kHugePage) munmap(data + size, kHugePage - before);
    }
    next_ = data + size;
#ifdef MADV_HUGEPAGE
    madvise(data, size, MADV_HUGEPAGE);
#endif
    return data;
  }

  // Maps memory at `place`, or where the kernel chooses if that is not free.
  static char* mapAnonymous(size_t size, char* place) {
    void* const data = mmap(place, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return data == MAP_FAILED ? nullptr : static_cast<char*>(data);
  }

  static void releaseLarge(void* data) {
    if (instance().keep(data)) return;
    std::fputs("ip-adapter: a block of memory was released twice\n", stderr);
    std::abort();  // as free() does
  }
  static void release(void* data) {
    if (!instance().keep(data)) std::free(data);
  }

  std::mutex mutex_;
  std::multimap<size_t, void*> small_;
  FreeRanges ranges_;
  // In the middle of the address space, far from where the kernel places others' mappings.
  char* next_ = reinterpret_cast<char*>(uintptr_t(32) << 40);
  std::unordered_map<void*, size_t> used_;
  size_t allocated_ = 0, smallBytes_ = 0, peak_ = 0;
  GroupUsage group_;
  size_t cacheLimit_ = machineMemory() / kKeptPart;
};

// installCpuAllocator(): once for the process, before the first tensor.
Napi::Value installCpuAllocator(const Napi::CallbackInfo& info) {
  static std::once_flag once;
  std::call_once(once, [] { c10::SetCPUAllocator(&CachingCpuAllocator::instance(), 1); });
  return info.Env().Undefined();
}

Napi::Value memory(const Napi::CallbackInfo& info) {
  const CpuMemory stats = cpuMemory();
  Napi::Object result = Napi::Object::New(info.Env());
  result["cpuAllocatedBytes"] = Napi::Number::New(info.Env(), static_cast<double>(stats.allocated));
  result["cpuCachedBytes"] = Napi::Number::New(info.Env(), static_cast<double>(stats.cached));
  result["cpuPeakBytes"] = Napi::Number::New(info.Env(), static_cast<double>(stats.peak));
  return result;
}

Napi::Value trimCpuMemory(const Napi::CallbackInfo& info) {
  CachingCpuAllocator::instance().trim();
  return info.Env().Undefined();
}

// setCpuCacheLimit(bytes): limits the cached blocks.
Napi::Value setCpuCacheLimit(const Napi::CallbackInfo& info) {
  return guarded(info, [&] {
    const int64_t bytes = integerArgument(info[0], "the limit of kept memory", 0, kMaxSafeInteger);
    CachingCpuAllocator::instance().setCacheLimit(static_cast<size_t>(bytes));
    return info.Env().Undefined();
  });
}

// setMemoryLimit(bytes, usageFile, statFile): sets the limit of the process's control group; see src/torch/memory-limit.ts.
Napi::Value setMemoryLimit(const Napi::CallbackInfo& info) {
  return guarded(info, [&] {
    GroupUsage group;
    group.limit = static_cast<size_t>(integerArgument(info[0], "the memory limit", 1, kMaxSafeInteger));
    group.usageFile = stringArgument(info[1], "the usage file");
    group.statFile = stringArgument(info[2], "the statistics file");
    CachingCpuAllocator::instance().setGroup(std::move(group));
    return info.Env().Undefined();
  });
}

Napi::Value resetCpuPeak(const Napi::CallbackInfo& info) {
  CachingCpuAllocator::instance().resetPeak();
  return info.Env().Undefined();
}

}  // namespace

CpuMemory cpuMemory() { return CachingCpuAllocator::instance().stats(); }

void exportMemory(Napi::Env env, Napi::Object exports) {
  exports["installCpuAllocator"] = Napi::Function::New(env, installCpuAllocator);
  exports["memory"] = Napi::Function::New(env, memory);
  exports["trimCpuMemory"] = Napi::Function::New(env, trimCpuMemory);
  exports["setCpuCacheLimit"] = Napi::Function::New(env, setCpuCacheLimit);
  exports["setMemoryLimit"] = Napi::Function::New(env, setMemoryLimit);
  exports["resetCpuPeak"] = Napi::Function::New(env, resetCpuPeak);
}
