// a · gelu(b) as one operator, ip_adapter::geglu, for float32 on the CPU. These are the largest tensors of a transformer:
// LibTorch's operators read them three times, and keep one for backward that can be recomputed.
#include "kernels/kernels.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

namespace {

// Calls body(from, rows) for parts of all rows, on all threads.
template <typename Body>
void forRows(int64_t rows, int64_t width, Body body) {
  const int64_t grain = std::max<int64_t>(1, 16384 / std::max<int64_t>(1, width));
  at::parallel_for(0, rows, grain, [&](int64_t from, int64_t to) { body(from, to - from); });
}

// x [..., 2 width] -> [..., width]
at::Tensor forward(const at::Tensor& x) {
  TORCH_CHECK(x.scalar_type() == at::kFloat && x.size(-1) % 2 == 0, "geglu takes float32 of an even width");
  at::AutoDispatchBelowADInplaceOrView guard;
  const at::Tensor input = x.contiguous();
  std::vector<int64_t> sizes = input.sizes().vec();
  const int64_t width = sizes.back() /= 2;
  const at::Tensor out = at::empty(sizes, input.options());
  if (out.numel() == 0) return out;
  const float* from = input.data_ptr<float>();
  float* to = out.data_ptr<float>();
  forRows(out.numel() / width, width, [&](int64_t row, int64_t rows) {
    kernels().geglu(from + row * 2 * width, to + row * width, rows, width);
  });
  return out;
}

struct Geglu : torch::autograd::Function<Geglu> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x) {
    context->save_for_backward({x});
    return ::forward(x);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list grads) {
    const at::Tensor input = context->get_saved_variables()[0].contiguous(), gradOut = grads[0].contiguous();
    const at::Tensor gradX = at::empty(input.sizes(), input.options());
    if (gradX.numel() == 0) return {gradX};
    const int64_t width = gradOut.size(-1);
    const float *from = input.data_ptr<float>(), *grad = gradOut.data_ptr<float>();
    float* to = gradX.data_ptr<float>();
    forRows(gradOut.numel() / width, width, [&](int64_t row, int64_t rows) {
      kernels().gegluBackward(from + row * 2 * width, grad + row * width, to + row * 2 * width, rows, width);
    });
    return {gradX};
  }
};

at::Tensor withGradient(const at::Tensor& x) { return Geglu::apply(x); }

}  // namespace

// Used only if this file has threads: on many cores, LibTorch's operators on all of them are faster than this on one.
#ifdef INTRA_OP_PARALLEL
TORCH_LIBRARY_FRAGMENT(ip_adapter, library) { library.def("geglu(Tensor x) -> Tensor"); }
TORCH_LIBRARY_IMPL(ip_adapter, CPU, library) { library.impl("geglu", forward); }
TORCH_LIBRARY_IMPL(ip_adapter, AutogradCPU, library) { library.impl("geglu", withGradient); }
#endif
