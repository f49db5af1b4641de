// Attention for a LibTorch without a fused one for the CPU (before 2.0), as an operator of our own that the
// dispatcher knows like any other: ip_adapter::attention. Neither direction ever holds the probabilities [n, m] of a
// head; backward computes them again, block by block, from what forward got (as in FlashAttention, arXiv 2205.14135,
// algorithm 4, with the plain softmax of a whole row instead of a running one).
#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

namespace {

// A block of scores of this size stays in the cache, and is large enough for fast products.
constexpr int64_t kBlockBytes = int64_t(4) << 20;

int64_t blockRows(const at::Tensor& k) {
  const int64_t rowBytes = k.size(-2) * static_cast<int64_t>(k.element_size());
  return std::max<int64_t>(16, kBlockBytes / std::max<int64_t>(rowBytes, 1));
}

// One head after another, each product on all threads: heads side by side, on a thread each, are not faster.
template <typename Body>
void forEachHead(int64_t heads, Body body) {
  at::AutoDispatchBelowADInplaceOrView guard;
  for (int64_t head = 0; head < heads; head++) body(head);
}

at::Tensor byHead(const at::Tensor& x) { return x.contiguous().flatten(0, 1); }

// q [batch, heads, n, d], k [batch, heads, m, d], v [batch, heads, m, e] -> [batch, heads, n, e]
at::Tensor forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale) {
  const at::Tensor queries = byHead(q).mul(scale), keys = byHead(k), values = byHead(v);
  const int64_t n = q.size(2), rows = std::min(blockRows(k), n);
  at::Tensor result = at::empty({queries.size(0), n, v.size(3)}, q.options());
  forEachHead(queries.size(0), [&](int64_t head) {
    const at::Tensor key = keys[head].t(), value = values[head], query = queries[head], out = result[head];
    const at::Tensor scores = at::empty({rows, k.size(2)}, q.options()), weights = at::empty_like(scores);
    for (int64_t row = 0; row < n; row += rows) {
      const int64_t count = std::min(rows, n - row);
      at::Tensor s = scores.narrow(0, 0, count), p = weights.narrow(0, 0, count), o = out.narrow(0, row, count);
      at::mm_out(s, query.narrow(0, row, count), key);
      at::_softmax_out(p, s, -1, false);
      at::mm_out(o, p, value);
    }
  });
  return result.view({q.size(0), q.size(1), n, v.size(3)});
}

struct Attention : torch::autograd::Function<Attention> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& q, const at::Tensor& k,
                            const at::Tensor& v, double scale) {
    at::AutoDispatchBelowADInplaceOrView guard;
    context->save_for_backward({q, k, v});
    context->saved_data["scale"] = scale;
    return ::forward(q, k, v, scale);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list grads) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &q = saved[0], &k = saved[1], &v = saved[2];
    const double scale = context->saved_data["scale"].toDouble();
    const at::Tensor queries = byHead(q).mul(scale), keys = byHead(k), values = byHead(v), gradOut = byHead(grads[0]);
    const at::Tensor gradQ = at::empty_like(queries), gradK = at::zeros_like(keys), gradV = at::zeros_like(values);
    const int64_t n = q.size(2), rows = std::min(blockRows(k), n);
    forEachHead(queries.size(0), [&](int64_t head) {
      const at::Tensor key = keys[head], value = values[head];
      at::Tensor dk = gradK[head], dv = gradV[head];
      const at::Tensor scores = at::empty({rows, k.size(2)}, q.options());
      const at::Tensor weights = at::empty_like(scores), gradScores = at::empty_like(scores);
      for (int64_t row = 0; row < n; row += rows) {
        const int64_t count = std::min(rows, n - row);
        const at::Tensor query = queries[head].narrow(0, row, count), dout = gradOut[head].narrow(0, row, count);
        at::Tensor s = scores.narrow(0, 0, count), p = weights.narrow(0, 0, count), ds = gradScores.narrow(0, 0, count);
        at::Tensor dq = gradQ[head].narrow(0, row, count);
        at::mm_out(s, query, key.t());
        at::_softmax_out(p, s, -1, false);
        dv.addmm_(p.t(), dout);
        at::mm_out(s, dout, value.t());  // the gradient of the probabilities
        at::_softmax_backward_data_out(ds, s, p, -1, q.scalar_type());
        at::mm_out(dq, ds, key);
        dk.addmm_(ds.t(), query);
      }
    });
    return {gradQ.mul_(scale).view_as(q), gradK.view_as(k), gradV.view_as(v), at::Tensor()};
  }
};

at::Tensor withGradient(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale) {
  return Attention::apply(q, k, v, scale);
}

}  // namespace

TORCH_LIBRARY(ip_adapter, library) { library.def("attention(Tensor q, Tensor k, Tensor v, float scale) -> Tensor"); }
TORCH_LIBRARY_IMPL(ip_adapter, CPU, library) { library.impl("attention", forward); }
TORCH_LIBRARY_IMPL(ip_adapter, AutogradCPU, library) { library.impl("attention", withGradient); }
