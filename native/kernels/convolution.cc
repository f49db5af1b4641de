// 3 × 3 convolution with stride 1 and padding 1 by Winograd's algorithm (winograd-loops.h), for float32 on the CPU and weights
// that are not trained: ip_adapter::conv3x3, in tiles of 2 × 2 or 4 × 4 results. The weights are transformed at each call, which
// takes little beside the products, and no memory that stays.
#include "kernels/kernels.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

namespace {

at::Tensor run(Convolution of, const at::Tensor& input, int64_t outChannels, int64_t tile) {
  const at::Tensor x = input.contiguous();
  of.batch = x.size(0);
  of.inChannels = x.size(1);
  of.outChannels = outChannels;
  of.height = x.size(2);
  of.width = x.size(3);
  const at::Tensor out = at::empty({of.batch, outChannels, of.height, of.width}, x.options());
  if (out.numel() == 0) return out;
  of.input = x.data_ptr<float>();
  of.out = out.data_ptr<float>();
  const ConvolutionKernel& kernel = tile == 4 ? kernels().convolution4 : kernels().convolution2;
  const ConvolutionPlan plan = kernel.plan(of);
  const at::Tensor prepared = at::empty({plan.prepared}, x.options());
  const at::Tensor scratch = at::empty({at::get_num_threads(), plan.scratch}, x.options());
  at::parallel_for(0, plan.preparations, 1, [&](int64_t from, int64_t to) {
    kernel.prepare(of, from, to, prepared.data_ptr<float>());
  });
  at::parallel_for(0, plan.parts, 1, [&](int64_t from, int64_t to) {
    kernel.convolve(of, prepared.data_ptr<float>(), from, to, scratch.data_ptr<float>() + at::get_thread_num() * plan.scratch);
  });
  return out;
}

// x [batch, in, height, width], weight [out, in, 3, 3], bias [out] -> [batch, out, height, width]
at::Tensor forward(const at::Tensor& x, const at::Tensor& weight, const c10::optional<at::Tensor>& bias, int64_t tile) {
  TORCH_CHECK(x.scalar_type() == at::kFloat && weight.scalar_type() == at::kFloat && (!bias || bias->scalar_type() == at::kFloat),
              "conv3x3 takes float32");
  TORCH_CHECK(x.dim() == 4 && weight.dim() == 4 && x.size(1) > 0 && weight.size(1) == x.size(1) && weight.size(2) == 3 && weight.size(3) == 3 &&
                  (!bias || (bias->dim() == 1 && bias->size(0) == weight.size(0))),
              "conv3x3 takes x [batch, in, height, width], weight [out, in, 3, 3] and bias [out], but got ", x.sizes(), " and ",
              weight.sizes());
  TORCH_CHECK(tile == 2 || tile == 4, "conv3x3 has tiles of 2 × 2 or 4 × 4 results, but got ", tile);
  at::AutoDispatchBelowADInplaceOrView guard;
  const at::Tensor kernel = weight.contiguous(), offset = bias ? bias->contiguous() : at::Tensor();
  Convolution of{};
  of.weight = kernel.data_ptr<float>();
  of.weightOut = 9 * weight.size(1);
  of.weightIn = 9;
  of.bias = offset.defined() ? offset.data_ptr<float>() : nullptr;
  return run(of, x, weight.size(0), tile);
}

struct Conv3x3 : torch::autograd::Function<Conv3x3> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            const c10::optional<at::Tensor>& bias, int64_t tile) {
    TORCH_CHECK(!weight.requires_grad() && !(bias && bias->requires_grad()), "conv3x3 has no gradient of its weight and bias");
    context->save_for_backward({weight});
    context->saved_data["tile"] = tile;
    return ::forward(x, weight, bias, tile);
  }

  // The gradient is the convolution with the kernels rotated by 180°, and with input and output channels exchanged.
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list grads) {
    const at::Tensor weight = context->get_saved_variables()[0].contiguous();
    Convolution of{};
    of.weight = weight.data_ptr<float>();
    of.weightOut = 9;
    of.weightIn = 9 * weight.size(1);
    of.isRotated = true;
    const at::Tensor gradX = run(of, grads[0], weight.size(1), context->saved_data["tile"].toInt());
    return {gradX, at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

at::Tensor withGradient(const at::Tensor& x, const at::Tensor& weight, const c10::optional<at::Tensor>& bias, int64_t tile) {
  return Conv3x3::apply(x, weight, bias, tile);
}

}  // namespace

// Used only if this file has threads, as geglu is.
#ifdef INTRA_OP_PARALLEL
TORCH_LIBRARY_FRAGMENT(ip_adapter, library) { library.def("conv3x3(Tensor x, Tensor weight, Tensor? bias, int tile) -> Tensor"); }
TORCH_LIBRARY_IMPL(ip_adapter, CPU, library) { library.impl("conv3x3", forward); }
TORCH_LIBRARY_IMPL(ip_adapter, AutogradCPU, library) { library.impl("conv3x3", withGradient); }
#endif
