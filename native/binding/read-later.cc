// Reads values from a GPU without waiting for the work that was queued after them.
#include "binding/addon.h"

#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <chrono>
#include <cstring>
#include <memory>
#include <thread>

namespace {

// A copy to the host, which is complete after the event.
struct PendingRead {
  at::Tensor host;
  std::unique_ptr<c10::Event> copied;
};

using Result = Napi::External<PendingRead>;

// readLater(handle) -> an object for finishRead. On the CPU, the values are copied at once.
Napi::Value readLater(const Napi::CallbackInfo& info) {
  return guarded(info, [&] {
    const at::Tensor source = Addon::of(info.Env()).tensor(info[0]).detach();
    TORCH_CHECK(source.scalar_type() == at::kFloat, "readLater takes float32, not ", source.scalar_type());
    auto pending = std::make_unique<PendingRead>();
    const bool isCpu = source.device().is_cpu();
    pending->host = at::empty(source.sizes(), at::dtype(at::kFloat).pinned_memory(!isCpu));
    pending->host.copy_(source, !isCpu);
    if (!isCpu) {
      pending->copied = std::make_unique<c10::Event>(source.device().type());
      pending->copied->record(c10::impl::VirtualGuardImpl(source.device().type()).getStream(source.device()));
    }
    const Result result = Result::New(info.Env(), pending.get(), [](Napi::Env, PendingRead* gone) { delete gone; });
    pending.release();  // now JavaScript owns it
    return result;
  });
}

// finishRead(pending) -> a copy of the values, row-major
Napi::Value finishRead(const Napi::CallbackInfo& info) {
  return guarded(info, [&] {
    const PendingRead& pending = *info[0].As<Result>().Data();
    // LibTorch 1.13 can only query an event, not wait for it.
    while (pending.copied != nullptr && !pending.copied->query()) std::this_thread::sleep_for(std::chrono::microseconds(20));
    Napi::ArrayBuffer buffer = Napi::ArrayBuffer::New(info.Env(), pending.host.nbytes());
    if (pending.host.nbytes() > 0) std::memcpy(buffer.Data(), pending.host.data_ptr(), pending.host.nbytes());
    return buffer;
  });
}

}  // namespace

void exportReadLater(Napi::Env env, Napi::Object exports) {
  exports["readLater"] = Napi::Function::New(env, readLater);
  exports["finishRead"] = Napi::Function::New(env, finishRead);
}
