// Fused attention on the CPU, which LibTorch lacks before 2.0, registered with the dispatcher as ip_adapter::attention. The
// probabilities [n, m] of a head are never in memory as a whole; backward recomputes them tile by tile (the loops are in
// attention-loops.h). Sums are in float32.
#include "kernels/kernels.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

namespace {

// Returns x in float32, with contiguous rows whose width is padded to a multiple of 8.
at::Tensor prepared(const at::Tensor& x) {
  const int64_t missing = -x.size(3) & 7;
  const at::Tensor floats = x.to(at::kFloat);
  if (missing != 0) return at::constant_pad_nd(floats, {0, missing});
  return floats.stride(3) == 1 ? floats : floats.contiguous();
}

// Returns an empty tensor [batch, heads, n, width] in the memory order [batch, n, heads, width], which the next layer reads.
at::Tensor emptyLike(const at::Tensor& x, int64_t width) {
  return at::empty({x.size(0), x.size(2), x.size(1), width}, x.options()).transpose(1, 2);
}

// Returns the rows of head i, counted over the whole batch.
Rows rowsOf(const at::Tensor& x, int64_t i) {
  const int64_t heads = x.size(1);
  return {x.data_ptr<float>() + i / heads * x.stride(0) + i % heads * x.stride(1), x.stride(2)};
}

// Runs the body on all threads.
template <typename Body>
void forEach(int64_t count, Body body) {
  at::parallel_for(0, count, 1, [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; i++) body(i);
  });
}

// Calls body(head, part, begin, end) for the queries of all heads, those of each head in `parts` parts.
template <typename Body>
void forEachPart(int64_t heads, int64_t n, int64_t parts, Body body) {
  const int64_t rows = (n + parts - 1) / parts;
  forEach(heads * parts, [&](int64_t i) {
    const int64_t part = i % parts;
    body(i / parts, part, part * rows, std::min(n, (part + 1) * rows));
  });
}

float* start(const at::Tensor& x, int64_t i) { return x.data_ptr<float>() + i * x.stride(0); }

// Returns the panels (see kernels.h) of each head: [batch, heads, count, width] -> [batch * heads, count * width]
at::Tensor panelsOf(const at::Tensor& x) {
  const int64_t heads = x.size(0) * x.size(1), count = x.size(2), width = x.size(3);
  const at::Tensor result = at::empty({heads, count * width}, x.options());
  forEach(heads, [&](int64_t i) {
    const Rows rows = rowsOf(x, i);
    float* to = start(result, i);
    for (int64_t column = 0; column < width; column += kPanel) {
      const int64_t columns = std::min(kPanel, width - column);
      for (int64_t row = 0; row < count; row++) to = std::copy_n(rows[row] + column, columns, to);
    }
  });
  return result;
}

// Returns the panels of the transpose, times a factor: -> [batch * heads, width * count rounded up to a multiple of 16]
at::Tensor transposedPanelsOf(const at::Tensor& x, float factor) {
  const int64_t heads = x.size(0) * x.size(1), count = x.size(2), width = x.size(3);
  const int64_t panels = (count + kPanel - 1) / kPanel;
  const at::Tensor result = at::empty({heads, panels * width * kPanel}, x.options());
  forEach(heads, [&](int64_t i) {
    const Rows rows = rowsOf(x, i);
    float* to = start(result, i);
    for (int64_t panel = 0; panel < panels; panel++, to += width * kPanel)
      for (int64_t j = 0; j < kPanel; j++) {
        const int64_t row = panel * kPanel + j;
        for (int64_t c = 0; c < width; c++) to[c * kPanel + j] = row < count ? rows[row][c] * factor : 0;
      }
  });
  return result;
}

// The results of forward that backward needs besides q, k and v.
struct Result {
  at::Tensor out;        // [batch, heads, n, e], of q's dtype
  at::Tensor logSumExp;  // [batch * heads, n]
};

// q [batch, heads, n, d], k [batch, heads, m, d], v [batch, heads, m, e]
Result attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale) {
  at::AutoDispatchBelowADInplaceOrView guard;
  const at::Tensor queries = prepared(q), keys = prepared(k), values = prepared(v);
  const at::Tensor keysTransposed = transposedPanelsOf(keys, scale), valuePanels = panelsOf(values);
  const int64_t heads = q.size(0) * q.size(1), n = q.size(2);
  const at::Tensor out = emptyLike(queries, values.size(3));
  const at::Tensor logSumExp = at::empty({heads, n}, queries.options());
  forEachPart(heads, n, (n + 511) / 512, [&](int64_t i, int64_t, int64_t begin, int64_t end) {
    AttentionForward head;
    head.keyCount = k.size(2);
    head.width = queries.size(3);
    head.valueWidth = values.size(3);
    head.queries = rowsOf(queries, i);
    head.keysTransposed = start(keysTransposed, i);
    head.values = start(valuePanels, i);
    head.out = rowsOf(out, i);
    head.logSumExp = start(logSumExp, i);
    kernels().attention(head, begin, end);
  });
  return {out.narrow(3, 0, v.size(3)).to(q.scalar_type()), logSumExp};
}

at::Tensor forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale) {
  return attend(q, k, v, scale).out;
}

struct Attention : torch::autograd::Function<Attention> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& q, const at::Tensor& k,
                            const at::Tensor& v, double scale) {
    const Result result = attend(q, k, v, scale);
    context->save_for_backward({q, k, v, result.out, result.logSumExp});
    context->saved_data["scale"] = scale;
    return result.out;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list grads) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &q = saved[0], &k = saved[1], &v = saved[2], &logSumExp = saved[4];
    const double scale = context->saved_data["scale"].toDouble();
    const at::Tensor queries = prepared(q), keys = prepared(k), values = prepared(v);
    const at::Tensor out = prepared(saved[3]), gradOut = prepared(grads[0]);
    const at::Tensor queryPanels = panelsOf(queries), keyPanels = panelsOf(keys), gradOutPanels = panelsOf(gradOut);
    const at::Tensor keysTransposed = transposedPanelsOf(keys, scale), valuesTransposed = transposedPanelsOf(values, 1);
    const int64_t heads = q.size(0) * q.size(1), n = q.size(2);
    // With fewer heads than threads, the queries of a head are split into parts. Each part has its own sums for the
    // gradients of keys and values.
    const int64_t parts = std::max<int64_t>(1, std::min((at::get_num_threads() + heads - 1) / heads, n / 64));
    const at::Tensor gradQ = emptyLike(queries, queries.size(3)).zero_();
    std::vector<at::Tensor> gradK, gradV;
    for (int64_t part = 0; part < parts; part++) {
      gradK.push_back(emptyLike(keys, keys.size(3)).zero_());
      gradV.push_back(emptyLike(values, values.size(3)).zero_());
    }
    forEachPart(heads, n, parts, [&](int64_t i, int64_t part, int64_t begin, int64_t end) {
      AttentionBackward head;
      head.queryCount = n;
      head.keyCount = k.size(2);
      head.width = queries.size(3);
      head.valueWidth = values.size(3);
      head.scale = scale;
      head.queries = rowsOf(queries, i);
      head.queryPanels = start(queryPanels, i);
      head.keyPanels = start(keyPanels, i);
      head.keysTransposed = start(keysTransposed, i);
      head.valuesTransposed = start(valuesTransposed, i);
      head.out = rowsOf(out, i);
      head.gradOut = rowsOf(gradOut, i);
      head.gradOutPanels = start(gradOutPanels, i);
      head.logSumExp = start(logSumExp, i);
      head.gradQueries = rowsOf(gradQ, i);
      head.gradKeys = rowsOf(gradK[part], i);
      head.gradValues = rowsOf(gradV[part], i);
      kernels().attentionBackward(head, begin, end);
    });
    for (int64_t part = 1; part < parts; part++) {
      gradK[0].add_(gradK[part]);
      gradV[0].add_(gradV[part]);
    }
    const auto like = [](const at::Tensor& grad, const at::Tensor& x) {
      return grad.narrow(3, 0, x.size(3)).to(x.scalar_type());
    };
    return {like(gradQ, q), like(gradK[0], k), like(gradV[0], v), at::Tensor()};
  }
};

at::Tensor withGradient(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale) {
  return Attention::apply(q, k, v, scale);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(ip_adapter, library) { library.def("attention(Tensor q, Tensor k, Tensor v, float scale) -> Tensor"); }
TORCH_LIBRARY_IMPL(ip_adapter, CPU, library) { library.impl("attention", forward); }
TORCH_LIBRARY_IMPL(ip_adapter, AutogradCPU, library) { library.impl("attention", withGradient); }
