// Tensors in mapped files. If another process changes such a file, the tensors change with it. If it truncates the file, the
// next access raises SIGBUS, which is reported with the name of the file.
#include "binding/addon.h"
#include "binding/arguments.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <vector>

namespace {

struct Mapping {
  char* data;
  size_t size;
  std::string ending;  // what the signal handler writes
};

// A place in the list that the signal handler reads. Places are reused and never freed, so the handler needs no lock.
struct Place {
  std::atomic<const Mapping*> mapping{nullptr};
  Place* next = nullptr;
};
std::atomic<Place*> places{nullptr};
std::mutex placesMutex;  // for all but the handler

struct sigaction formerAction;

// Does only what a signal handler may do: read, write, exit.
void onBusError(int, siginfo_t* info, void*) {
  const char* address = static_cast<const char*>(info->si_addr);
  for (const Place* place = places.load(); place != nullptr; place = place->next) {
    const Mapping* mapping = place->mapping.load();
    if (mapping == nullptr || address < mapping->data || address >= mapping->data + mapping->size) continue;
    if (write(STDERR_FILENO, mapping->ending.data(), mapping->ending.size()) < 0) _exit(2);
    _exit(2);
  }
  // Not in our files: with the previous handler, the instruction runs again and fails as usual. A signal that was sent by a
  // process has no instruction.
  sigaction(SIGBUS, &formerAction, nullptr);
  if (info->si_code <= 0) raise(SIGBUS);
}

void listMapping(const Mapping* mapping) {
  const std::lock_guard<std::mutex> lock(placesMutex);
  static const bool isHandled = [] {
    struct sigaction action {};
    action.sa_sigaction = onBusError;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    return sigaction(SIGBUS, &action, &formerAction) == 0;
  }();
  (void)isHandled;
  for (Place* place = places.load(); place != nullptr; place = place->next)
    if (place->mapping.load() == nullptr) return place->mapping.store(mapping);
  auto* place = new Place();
  place->mapping = mapping;
  place->next = places.load();
  places.store(place);
}

void unmap(Mapping* mapping) {
  {
    const std::lock_guard<std::mutex> lock(placesMutex);
    for (Place* place = places.load(); place != nullptr; place = place->next)
      if (place->mapping.load() == mapping) place->mapping.store(nullptr);
  }
  munmap(mapping->data, mapping->size);
  delete mapping;
}

// An open file, which is closed at the end of its scope.
struct OpenFile {
  const std::string& path;
  const int descriptor;
  struct stat status {};

  explicit OpenFile(const std::string& path) : path(path), descriptor(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
    TORCH_CHECK(descriptor >= 0, "cannot open ", path, ": ", std::strerror(errno));
    if (fstat(descriptor, &status) != 0) {
      const int error = errno;
      close(descriptor);
      TORCH_CHECK(false, "cannot read ", path, ": ", std::strerror(error));
    }
    if (!S_ISREG(status.st_mode)) {
      close(descriptor);
      TORCH_CHECK(false, "cannot read ", path, ": it is not a regular file");
    }
  }
  ~OpenFile() { close(descriptor); }
  uint64_t size() const { return static_cast<uint64_t>(status.st_size); }
};

std::shared_ptr<Mapping> mapFile(const OpenFile& file) {
  // Private and writable: a write to such a tensor changes memory, never the file.
  void* data = mmap(nullptr, file.size(), PROT_READ | PROT_WRITE, MAP_PRIVATE, file.descriptor, 0);
  TORCH_CHECK(data != MAP_FAILED, "cannot map ", file.path, ": ", std::strerror(errno));
  const std::string ending = "ip-adapter: the file " + file.path +
                             " was truncated, or its disk failed, while the process was using it. "
                             "The process cannot continue. Restore the file, and do not change it during a run; "
                             "a training resumes from its latest checkpoint.\n";
  auto* mapping = new Mapping{static_cast<char*>(data), static_cast<size_t>(file.size()), ending};
  listMapping(mapping);
  return {mapping, unmap};
}

void readAt(const OpenFile& file, uint64_t offset, void* target, uint64_t bytes) {
  char* to = static_cast<char*>(target);
  while (bytes > 0) {
    const ssize_t count = pread(file.descriptor, to, std::min<uint64_t>(bytes, 1 << 30), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    TORCH_CHECK(count >= 0, "cannot read ", file.path, ": ", std::strerror(errno));
    TORCH_CHECK(count > 0, "cannot read ", file.path, ": it has become shorter");
    to += count;
    offset += static_cast<uint64_t>(count);
    bytes -= static_cast<uint64_t>(count);
  }
}

// Whether tensors map their files or are copies, for files that may change during a run.
std::atomic<bool> isMappingOn{true};

// setFileMapping(on): with false, mapTensors copies the values from now on.
Napi::Value setFileMapping(const Napi::CallbackInfo& info) {
  isMappingOn = info[0].As<Napi::Boolean>();
  return info.Env().Undefined();
}

// mapTensors(path, [[offset, dtype, shape], ...]) -> tensors in the mapped file.
Napi::Value mapTensors(const Napi::CallbackInfo& info) {
  return guarded(info, [&] {
    const std::string path = stringArgument(info[0], "the path");
    const Napi::Array wanted = arrayArgument(info[1], "the list of tensors");
    const OpenFile file(path);
    std::shared_ptr<Mapping> mapping;
    // Handles are created only when all tensors exist, since an error would leave them behind.
    std::vector<at::Tensor> tensors;
    for (uint32_t i = 0; i < wanted.Length(); i++) {
      const Napi::Array entry = arrayArgument(wanted.Get(i), "an entry of the list of tensors");
      const auto offset = static_cast<uint64_t>(integerArgument(entry.Get(0u), "the offset of a tensor", 0, kMaxSafeInteger));
      const at::ScalarType dtype = dtypeArgument(entry.Get(1u));
      const std::vector<int64_t> sizes = shapeArgument(entry.Get(2u));
      const size_t itemsize = c10::elementSize(dtype);
      uint64_t bytes = itemsize;
      for (const int64_t size : sizes)
        TORCH_CHECK(!__builtin_mul_overflow(bytes, static_cast<uint64_t>(size), &bytes), "impossible shape in ", path);
      TORCH_CHECK(offset <= file.size() && bytes <= file.size() - offset, path, " ends before its tensor ", i);
      // Values in a file may be unaligned, which operators do not support: copy those.
      if (bytes == 0 || offset % itemsize != 0 || !isMappingOn) {
        tensors.push_back(at::empty(sizes, at::dtype(dtype)));
        if (bytes > 0) readAt(file, offset, tensors.back().data_ptr(), bytes);
      } else {
        if (mapping == nullptr) mapping = mapFile(file);
        tensors.push_back(at::from_blob(mapping->data + offset, sizes, [mapping](void*) {}, at::dtype(dtype)));
      }
    }
    Addon& addon = Addon::of(info.Env());
    Napi::Array handles = Napi::Array::New(info.Env(), tensors.size());
    for (uint32_t i = 0; i < tensors.size(); i++)
      handles[i] = Napi::Number::New(info.Env(), addon.tensors.add(std::move(tensors[i])));
    return handles;
  });
}

// Whether the bytes are in a file that is mapped here.
bool isInMapping(const char* data, size_t bytes) {
  const std::lock_guard<std::mutex> lock(placesMutex);
  for (Place* place = places.load(); place != nullptr; place = place->next) {
    const Mapping* mapping = place->mapping.load();
    if (mapping != nullptr && data >= mapping->data && data + bytes <= mapping->data + mapping->size) return true;
  }
  return false;
}

// The kernel's table of this process's pages. Where there is none, as on macOS, nothing is known to be clean.
struct PageTable {
  const int descriptor = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  ~PageTable() {
    if (descriptor >= 0) close(descriptor);
  }

  // Whether none of these pages was written to: a written page is a copy, no longer the file's.
  bool isClean(uintptr_t firstPage, size_t count) const {
    constexpr uint64_t kPresent = uint64_t(1) << 63, kSwapped = uint64_t(1) << 62, kOfFile = uint64_t(1) << 61;
    std::vector<uint64_t> entries(count);
    const auto bytes = static_cast<ssize_t>(count * sizeof(uint64_t));
    if (pread(descriptor, entries.data(), bytes, static_cast<off_t>(firstPage * sizeof(uint64_t))) != bytes) return false;
    return std::all_of(entries.begin(), entries.end(),
                       [](uint64_t entry) { return (entry & (kPresent | kSwapped)) == 0 || (entry & kOfFile) != 0; });
  }
};

// releasePages(handles): takes the pages of tensors in mapped files out of the process. The next access maps them again, from the
// system's file cache. Values that were written would be lost: tensors with such pages are left alone.
Napi::Value releasePages(const Napi::CallbackInfo& info) {
  return guarded(info, [&] {
    const Napi::Array handles = arrayArgument(info[0], "the list of tensors");
    const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
    const PageTable table;
    for (uint32_t i = 0; i < handles.Length(); i++) {
      const at::Tensor& tensor = Addon::of(info.Env()).tensor(handles.Get(i));
      if (!tensor.has_storage()) continue;
      const auto* const data = static_cast<const char*>(tensor.storage().data());
      const size_t bytes = tensor.storage().nbytes();
      if (!isInMapping(data, bytes)) continue;
      // Whole pages: the first and the last may hold other tensors, too.
      const uintptr_t first = (reinterpret_cast<uintptr_t>(data) + page - 1) / page;
      const uintptr_t end = (reinterpret_cast<uintptr_t>(data) + bytes) / page;
      if (end > first && table.isClean(first, end - first))
        madvise(reinterpret_cast<void*>(first * page), (end - first) * page, MADV_DONTNEED);
    }
    return info.Env().Undefined();
  });
}

}  // namespace

void exportMappedFiles(Napi::Env env, Napi::Object exports) {
  exports["mapTensors"] = Napi::Function::New(env, mapTensors);
  exports["releasePages"] = Napi::Function::New(env, releasePages);
  exports["setFileMapping"] = Napi::Function::New(env, setFileMapping);
}
