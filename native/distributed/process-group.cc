// Collectives between processes, by LibTorch's own c10d: Gloo on CPUs, NCCL on GPUs. Everything that waits for another process
// does so on another thread; JavaScript gets a promise.
#include "binding/addon.h"

#ifdef USE_C10D_GLOO

#include "binding/arguments.h"

#include <torch/csrc/distributed/c10d/FileStore.hpp>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#ifdef USE_C10D_NCCL
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif
#include <c10/util/Logging.h>
#include <torch/version.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <thread>

namespace {

using std::chrono::milliseconds;
using Store = c10::intrusive_ptr<c10d::Store>;

#if TORCH_VERSION_MAJOR < 2
using Backend = c10d::ProcessGroup;
#else
using Backend = c10d::Backend;
#endif

struct Group {
  c10::intrusive_ptr<Backend> backend;
  int worldSize;
};

using StoreHandle = Napi::External<Store>;
using GroupHandle = Napi::External<Group>;

constexpr double kMaxRanks = 1 << 20;
constexpr double kMaxTimeout = 1e9;
// Rank 0 may hold the store, which ends with its process: it waits longer, so that the others can ask it who is missing.
constexpr milliseconds kExtraWaitOfRank0(2000);

// Settles a promise from any thread, once, and then deletes itself.
class Settler {
 public:
  using Result = std::function<Napi::Value(Napi::Env)>;

  explicit Settler(Napi::Env env)
      : deferred_(env),
        call_(Napi::ThreadSafeFunction::New(env, Napi::Function::New(env, [](const Napi::CallbackInfo&) {}), "c10d", 0, 1)) {}

  Napi::Promise promise() const { return deferred_.Promise(); }

  // @param fault the message of the error; empty for a success
  // @param result makes the value, on JavaScript's thread
  void settle(std::string fault, Result result) {
    call_.BlockingCall([this, fault = std::move(fault), result = std::move(result)](Napi::Env env, Napi::Function) {
      try {
        if (fault.empty())
          deferred_.Resolve(result(env));
        else
          deferred_.Reject(Napi::Error::New(env, fault).Value());
      } catch (const Napi::Error& error) {
        deferred_.Reject(error.Value());
      } catch (const std::exception& error) {
        deferred_.Reject(Napi::Error::New(env, error.what()).Value());
      }
      call_.Release();
      delete this;
    });
  }

 private:
  Napi::Promise::Deferred deferred_;
  Napi::ThreadSafeFunction call_;
};

Napi::Value undefined(Napi::Env env) { return env.Undefined(); }

// Runs `work` on a thread of its own; it returns the function that makes the promise's value.
Napi::Promise onThread(Napi::Env env, std::function<Settler::Result()> work) {
  auto* settler = new Settler(env);
  const Napi::Promise promise = settler->promise();
  std::thread([settler, work = std::move(work)] {
    Settler::Result result = undefined;
    std::string fault;
    try {
      result = work();
    } catch (const c10::Error& error) {
      fault = error.what_without_backtrace();
    } catch (const std::exception& error) {
      fault = error.what();
    }
    settler->settle(std::move(fault), std::move(result));
  }).detach();
  return promise;
}

int intOf(const Napi::Object& options, const char* key, double least, double most) {
  return static_cast<int>(integerArgument(options.Get(key), key, least, most));
}

std::string textOf(const Napi::Object& options, const char* key) { return stringArgument(options.Get(key), key); }

// Debian's LibTorch 2.6 is built without libuv, which its store asks for by default; 1.13 does not have the option.
template <typename Options>
auto withoutLibUV(Options& options, int) -> decltype(void(options.useLibUV)) {
  options.useLibUV = false;
}
template <typename Options>
void withoutLibUV(Options&, long) {}

struct StoreSettings {
  int rank, worldSize;
  std::string file;  // of a FileStore; empty: a TCPStore at host:port
  std::string host;
  uint16_t port;
  bool isServer;
  std::string prefix;  // of all keys
  std::string self;    // what the others are told about this process
  milliseconds timeout;
};

Store connect(const StoreSettings& settings) {
  Store store;
  if (settings.file.empty()) {
    c10d::TCPStoreOptions options;
    options.port = settings.port;
    options.isServer = settings.isServer;
    options.numWorkers = settings.worldSize;
    options.waitWorkers = false;
    options.timeout = settings.timeout;
    withoutLibUV(options, 0);
    store = c10::make_intrusive<c10d::TCPStore>(settings.host, options);
  } else {
    store = c10::make_intrusive<c10d::FileStore>(settings.file, settings.worldSize);
  }
  store->setTimeout(settings.timeout);
  return c10::make_intrusive<c10d::PrefixStore>(settings.prefix, store);
}

std::vector<uint8_t> bytesOf(const std::string& text) { return {text.begin(), text.end()}; }

// Waits until every rank has come. Returns what each has told about itself.
std::vector<std::string> meet(c10d::Store& store, const StoreSettings& settings) {
  const auto present = [](int rank) { return "present/" + std::to_string(rank); };
  const auto about = [](int rank) { return "about/" + std::to_string(rank); };
  store.set(about(settings.rank), bytesOf(settings.self));
  TORCH_CHECK(store.add(present(settings.rank), 1) == 1, "two processes say that they are rank ", settings.rank);
  const auto end = std::chrono::steady_clock::now() + settings.timeout + (settings.rank == 0 ? kExtraWaitOfRank0 : milliseconds(0));
  std::vector<std::string> members;
  for (int rank = 0; rank < settings.worldSize; rank++) {
    const auto left = std::chrono::duration_cast<milliseconds>(end - std::chrono::steady_clock::now());
    try {
      store.wait({present(rank)}, std::max(left, milliseconds(1)));
    } catch (const std::exception&) {
      std::string missing;
      for (int other = rank; other < settings.worldSize; other++)
        if (!store.check({present(other)})) missing += (missing.empty() ? "" : ", ") + std::to_string(other);
      TORCH_CHECK(false, "rank ", missing, " of ", settings.worldSize, " did not come within ", settings.timeout.count() / 1000.0,
                  " s");
    }
    const std::vector<uint8_t> text = store.get(about(rank));
    members.emplace_back(text.begin(), text.end());
  }
  return members;
}

// openStore({rank, worldSize, file, host, port, isServer, prefix, self, timeout}) -> a promise of [store, what each rank has told
// about itself]. Waits until all ranks have come.
Napi::Value openStore(const Napi::CallbackInfo& info) {
  return guarded(info, [&] {
    const Napi::Object options = info[0].As<Napi::Object>();
    const StoreSettings settings = {
        intOf(options, "rank", 0, kMaxRanks),
        intOf(options, "worldSize", 1, kMaxRanks),
        textOf(options, "file"),
        textOf(options, "host"),
        static_cast<uint16_t>(intOf(options, "port", 0, 65535)),
        options.Get("isServer").ToBoolean(),
        textOf(options, "prefix"),
        textOf(options, "self"),
        milliseconds(intOf(options, "timeout", 1, kMaxTimeout)),
    };
    // Python's torch calls it at import. Without it, 2.x does not read TORCH_CPP_LOG_LEVEL.
    c10::initLogging();
    return onThread(info.Env(), [settings]() -> Settler::Result {
      const Store store = connect(settings);
      const std::vector<std::string> members = meet(*store, settings);
      return [store, members](Napi::Env env) -> Napi::Value {
        Napi::Array result = Napi::Array::New(env, 2);
        Napi::Array texts = Napi::Array::New(env, members.size());
        for (uint32_t i = 0; i < members.size(); i++) texts[i] = Napi::String::New(env, members[i]);
        // Never deleted: the store of rank 0 serves the others as long as its process lives.
        result[0u] = StoreHandle::New(env, new Store(store));
        result[1u] = texts;
        return result;
      };
    });
  });
}

Store storeOf(const Napi::Value& value) { return *value.As<StoreHandle>().Data(); }

// storeSet(store, key, text) -> a promise
Napi::Value storeSet(const Napi::CallbackInfo& info) {
  return guarded(info, [&] {
    const Store store = storeOf(info[0]);
    const std::string key = stringArgument(info[1], "the key"), text = stringArgument(info[2], "the text");
    return onThread(info.Env(), [store, key, text]() -> Settler::Result {
      store->set(key, bytesOf(text));
      return undefined;
    });
  });
}

// storeFind(store, key) -> a promise of the key's text; null where it is not set
Napi::Value storeFind(const Napi::CallbackInfo& info) {
  return guarded(info, [&] {
    const Store store = storeOf(info[0]);
    const std::string key = stringArgument(info[1], "the key");
    return onThread(info.Env(), [store, key]() -> Settler::Result {
      if (!store->check({key})) return [](Napi::Env env) { return env.Null(); };
      const std::vector<uint8_t> text = store->get(key);
      return [text](Napi::Env env) { return Napi::String::New(env, std::string(text.begin(), text.end())); };
    });
  });
}

struct GroupSettings {
  int rank, worldSize;
  std::string backend;             // gloo or nccl
  std::string address, interface;  // of this host, for Gloo: an address, or the name of a network interface
  milliseconds timeout;            // of a collective
};

c10::intrusive_ptr<Backend> createBackend(const Store& store, const GroupSettings& settings) {
  if (settings.backend == "gloo") {
    auto options = c10d::ProcessGroupGloo::Options::create(settings.timeout);
    options->devices.push_back(settings.interface.empty()
                                   ? c10d::ProcessGroupGloo::createDeviceForHostname(settings.address)
                                   : c10d::ProcessGroupGloo::createDeviceForInterface(settings.interface));
    return c10::make_intrusive<c10d::ProcessGroupGloo>(store, settings.rank, settings.worldSize, options);
  }
#ifdef USE_C10D_NCCL
  if (settings.backend == "nccl") {
    auto options = c10d::ProcessGroupNCCL::Options::create();
    options->timeout = settings.timeout;
    return c10::make_intrusive<c10d::ProcessGroupNCCL>(store, settings.rank, settings.worldSize, options);
  }
#endif
  TORCH_CHECK(false, "this build has no backend '", settings.backend, "'");
}

// createGroup(store, {rank, worldSize, backend, address, interface, timeout}) -> a promise of a group
Napi::Value createGroup(const Napi::CallbackInfo& info) {
  return guarded(info, [&] {
    const Store store = storeOf(info[0]);
    const Napi::Object options = info[1].As<Napi::Object>();
    const GroupSettings settings = {
        intOf(options, "rank", 0, kMaxRanks),
        intOf(options, "worldSize", 1, kMaxRanks),
        textOf(options, "backend"),
        textOf(options, "address"),
        textOf(options, "interface"),
        milliseconds(intOf(options, "timeout", 1, kMaxTimeout)),
    };
    return onThread(info.Env(), [store, settings]() -> Settler::Result {
      const Store own = c10::make_intrusive<c10d::PrefixStore>(settings.backend, store);
      const c10::intrusive_ptr<Backend> backend = createBackend(own, settings);
      const int worldSize = settings.worldSize;
      // Never deleted: Gloo's destructor waits for peers, which may be gone.
      return [backend, worldSize](Napi::Env env) { return GroupHandle::New(env, new Group{backend, worldSize}); };
    });
  });
}

Group& groupOf(const Napi::Value& value) { return *value.As<GroupHandle>().Data(); }

// Returns a promise that is settled when the work is done.
Napi::Value whenDone(Napi::Env env, const c10::intrusive_ptr<c10d::Work>& work, Settler::Result result = undefined) {
  auto* settler = new Settler(env);
  const Napi::Promise promise = settler->promise();
  work->getFuture()->addCallback([settler, work, result = std::move(result)](c10::ivalue::Future& future) {
    settler->settle(future.hasError() ? future.tryRetrieveErrorMessage() : "", [work, result](Napi::Env env) {
      // The work of a GPU is only queued by now. What JavaScript's thread queues from here on waits for it.
      work->synchronize();
      return result(env);
    });
  });
  return promise;
}

// allReduce(group, handle, "sum" | "max") -> a promise. The tensor is contiguous, is changed in place and must be left alone
// until the promise is settled.
Napi::Value allReduce(const Napi::CallbackInfo& info) {
  return guarded(info, [&] {
    std::vector<at::Tensor> tensors = {Addon::of(info.Env()).tensor(info[1]).detach()};
    c10d::AllreduceOptions options;
    options.reduceOp = stringArgument(info[2], "the operation") == "max" ? c10d::ReduceOp::MAX : c10d::ReduceOp::SUM;
    return whenDone(info.Env(), groupOf(info[0]).backend->allreduce(tensors, options));
  });
}

// broadcast(group, handle, root) -> a promise. The tensor as for allReduce.
Napi::Value broadcast(const Napi::CallbackInfo& info) {
  return guarded(info, [&] {
    Group& group = groupOf(info[0]);
    std::vector<at::Tensor> tensors = {Addon::of(info.Env()).tensor(info[1]).detach()};
    c10d::BroadcastOptions options;
    options.rootRank = static_cast<int>(integerArgument(info[2], "the root", 0, group.worldSize - 1));
    return whenDone(info.Env(), group.backend->broadcast(tensors, options));
  });
}

// allGather(group, handle) -> a promise of a handle for each rank; the tensors of all ranks have one shape and dtype
Napi::Value allGather(const Napi::CallbackInfo& info) {
  return guarded(info, [&] {
    Group& group = groupOf(info[0]);
    std::vector<at::Tensor> inputs = {Addon::of(info.Env()).tensor(info[1]).detach().contiguous()};
    std::vector<std::vector<at::Tensor>> outputs(1);
    for (int i = 0; i < group.worldSize; i++) outputs[0].push_back(at::empty_like(inputs[0]));
    const auto work = group.backend->allgather(outputs, inputs);
    return whenDone(info.Env(), work, [outputs](Napi::Env env) -> Napi::Value {
      Napi::Array handles = Napi::Array::New(env, outputs[0].size());
      for (uint32_t i = 0; i < outputs[0].size(); i++) handles[i] = Napi::Number::New(env, Addon::of(env).tensors.add(outputs[0][i]));
      return handles;
    });
  });
}

}  // namespace

void exportProcessGroup(Napi::Env env, Napi::Object exports) {
  Napi::Object distributed = Napi::Object::New(env);
  distributed["openStore"] = Napi::Function::New(env, openStore);
  distributed["storeSet"] = Napi::Function::New(env, storeSet);
  distributed["storeFind"] = Napi::Function::New(env, storeFind);
  distributed["createGroup"] = Napi::Function::New(env, createGroup);
  distributed["allReduce"] = Napi::Function::New(env, allReduce);
  distributed["broadcast"] = Napi::Function::New(env, broadcast);
  distributed["allGather"] = Napi::Function::New(env, allGather);
#ifdef USE_C10D_NCCL
  distributed["hasNCCL"] = Napi::Boolean::New(env, true);
#else
  distributed["hasNCCL"] = Napi::Boolean::New(env, false);
#endif
  exports["distributed"] = distributed;
}

#else

void exportProcessGroup(Napi::Env env, Napi::Object exports) { exports["distributed"] = env.Null(); }

#endif
