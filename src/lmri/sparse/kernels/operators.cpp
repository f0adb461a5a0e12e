// Sparse products, and what lies between them, as operators of torch.
#include <ATen/core/List.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/add.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/util/BFloat16.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "active.h"
#include "arguments.h"
#include "between.h"
#include "channels.h"
#include "pages.h"
#include "products.h"
#include "sums.h"

namespace lmri {
namespace {

using Activation = float (*)(float);

float silu(float x) { return x / (1 + std::exp(-x)); }

constexpr float INVERSE_ROOT_OF_TWO = std::numbers::sqrt2_v<float> / 2;

float gelu(float x) { return x * 0.5f * (1 + std::erf(x * INVERSE_ROOT_OF_TWO)); }

float gelu_tanh(float x) {
  constexpr float scale = 2 * INVERSE_ROOT_OF_TWO * std::numbers::inv_sqrtpi_v<float>;
  return 0.5f * x * (1 + std::tanh(scale * (x + 0.044715f * x * x * x)));
}

float relu(float x) { return x < 0 ? 0 : x; }  // what is not a number stays

Activation activation_of(const std::string& name) {
  if (name == "silu") return silu;
  if (name == "gelu") return gelu;
  if (name == "gelu_tanh") return gelu_tanh;
  if (name == "relu") return relu;
  TORCH_CHECK(false, "the activation must be silu, gelu, gelu_tanh or relu, not ", name);
}

// Neurons of an MLP: what its first projection and the activation function make of x, multiplied
// with the up projection if there is one. Neurons whose activation does not pass are skipped.
template <typename W>
struct Neurons {
  const W* weight;
  const float* bias;  // or none, as the others
  const W* weight_up;
  const float* bias_up;
  std::vector<float> x;
  int64_t n_in;
  Activation activation;
  const float* threshold;
  int64_t step;
  bool rounds;  // to bfloat16, as modules of that type do

  // Compute AT_ONCE neurons at most, from `first` on, of row b: which of them pass, counted from
  // `first`, and their values. Returns how many. What the activation function gives goes to `kept`.
  int64_t compute(int64_t b, int64_t first, int64_t count, void* kept, int64_t at,
                  int32_t* channels, float* values) const {
    const float* row = x.data() + b * n_in;
    float a[AT_ONCE];
    for (int64_t i = 0; i < count; ++i) channels[i] = i;
    dot(a, weight + first * n_in, channels, count, row, n_in);
    for (int64_t i = 0; i < count; ++i)
      a[i] = round(activation(round(bias ? a[i] + bias[first + i] : a[i])));
    if (rounds)
      std::copy(a, a + count, static_cast<c10::BFloat16*>(kept) + at);
    else
      std::copy(a, a + count, static_cast<float*>(kept) + at);
    const int64_t n = products().compact(a, threshold + step * first, step, count, channels, values);
    if (!weight_up) return n;
    float ups[AT_ONCE];
    dot(ups, weight_up + first * n_in, channels, n, row, n_in);
    for (int64_t i = 0; i < n; ++i)
      values[i] *= bias_up ? ups[i] + bias_up[first + channels[i]] : ups[i];
    return n;
  }

  float round(float value) const {
    return rounds ? static_cast<float>(c10::BFloat16(value)) : value;
  }
};

// y = sums over the neurons that pass; `a` is of all of them, (rows, n_neurons). What several rows
// read is in the cache when the next one asks for it.
template <typename W, typename Y>
void mlp_sums(const Neurons<W>& neurons, int64_t rows, int64_t n_neurons, const W* weight_down,
              int64_t n_out, void* a, Y* y) {
  const int64_t together = rows == 1 ? AT_ONCE : AT_ONCE / 4;
  const int64_t parts = count_parts(n_neurons);
  const int64_t per_neuron = neurons.n_in * (neurons.weight_up ? 2 : 1) + n_out;
  const int64_t bytes = n_neurons * per_neuron * sizeof(W);
  sum_up<W>(rows, n_out, parts, bytes, y, [&](int64_t part, float* sums, int64_t row_size) {
    int32_t channels[AT_ONCE + SLACK];
    float values[AT_ONCE + SLACK];
    const int64_t last = start_of(part + 1, parts, n_neurons);
    for (int64_t k = start_of(part, parts, n_neurons); k < last; k += together)
      for (int64_t b = 0; b < rows; ++b) {
        const int64_t count = std::min(together, last - k);
        const int64_t n = neurons.compute(b, k, count, a, b * n_neurons + k, channels, values);
        for (int64_t tile = 0; tile < n_out; tile += TILE)
          add(sums + b * row_size + tile, weight_down + k * n_out + tile, n_out, channels, values, n,
              0, std::min(TILE, n_out - tile));
      }
  });
}

Tensor finished(const Tensor& y, const Tensor& x) {
  auto shape = x.sizes().vec();
  shape.back() = y.size(1);
  return y.view(shape).to(x.scalar_type());
}

// Values of a tensor, or none.
const float* values_of(const Tensor& tensor) {
  return tensor.defined() ? tensor.const_data_ptr<float>() : nullptr;
}

// Let `run` fill rows of sums of weights; a bias is added if there is one. Of the dtype and leading
// shape of x.
template <typename Run>
Tensor filled(const Tensor& weight_t, int64_t rows, const Tensor& offset, const Tensor& x,
              const Run& run) {
  // Without a bias, bfloat16 is written as it is rounded, which saves two passes over y.
  const bool narrow = x.scalar_type() == at::kBFloat16 &&
                      weight_t.scalar_type() == at::kBFloat16 && !offset.defined();
  Tensor y = at::empty({rows, weight_t.size(1)}, narrow ? at::kBFloat16 : at::kFloat);
  with_weights(weight_t, [&]<typename W>(const W* weight) {
    if constexpr (sizeof(W) == sizeof(Half))
      if (narrow) return run(weight, static_cast<Half*>(y.data_ptr()));
    run(weight, y.data_ptr<float>());
  });
  if (offset.defined()) y.add_(offset);
  return finished(y, x);
}

Tensor products_of(Active& active, const Tensor& weight_t, const Tensor& inputs,
                   const Tensor& weight_up, const Tensor& up_offset, const Tensor& offset,
                   const Tensor& x) {
  return filled(weight_t, active.rows.size(), offset, x, [&]<typename W>(const W* weight, auto* y) {
    std::optional<Up<W>> up;
    if (weight_up.defined())
      up.emplace(static_cast<const W*>(weight_up.const_data_ptr()), values_of(up_offset),
                 factors<W>(inputs), inputs.size(1));
    input_sparse_sums(active, weight, weight_t.size(1), up ? &*up : nullptr, y);
  });
}

Tensor input_sparse(const Tensor& x, const Tensor& weight_t, const Tensor& threshold,
                    const MaybeTensor& bias) {
  check_weight(weight_t);
  const Tensor limits = thresholds(threshold, weight_t.size(0));
  const Tensor rows = rows_of(x, weight_t.size(0)), offset = biases(bias, weight_t.size(1));
  Active active(products(), rows, limits);
  return products_of(active, weight_t, {}, {}, {}, offset, x);
}

Tensor input_listed(const Tensor& x, const Tensor& weight_t, const Tensor& index,
                    const MaybeTensor& bias) {
  check_weight(weight_t);
  const std::vector<int32_t> channels = listed(index, weight_t.size(0));
  const Tensor rows = rows_of(x, weight_t.size(0)), offset = biases(bias, weight_t.size(1));
  Active active(rows, channels);
  return products_of(active, weight_t, {}, {}, {}, offset, x);
}

Tensor sparse_mlp(const Tensor& a, const Tensor& x, const Tensor& weight_up,
                  const Tensor& weight_down_t, const Tensor& threshold, const MaybeTensor& bias_up,
                  const MaybeTensor& bias_down) {
  check_weight(weight_up);
  check_weight(weight_down_t);
  const int64_t neurons = weight_down_t.size(0), n_out = weight_down_t.size(1);
  TORCH_CHECK(weight_up.size(0) == neurons &&
                  weight_up.scalar_type() == weight_down_t.scalar_type(),
              "both weights must be of ", neurons, " neurons and one dtype");
  const Tensor gates = rows_of(a, neurons), inputs = rows_of(x, weight_up.size(1));
  TORCH_CHECK(a.sizes().slice(0, a.dim() - 1) == x.sizes().slice(0, x.dim() - 1),
              "a and x must have the same leading shape");
  const Tensor limits = thresholds(threshold, neurons);
  const Tensor up_offset = biases(bias_up, neurons), offset = biases(bias_down, n_out);
  Active active(products(), gates, limits);
  return products_of(active, weight_down_t, inputs, weight_up, up_offset, offset, a);
}

std::tuple<Tensor, Tensor> whole_mlp(const Tensor& x, const Tensor& weight_in,
                                     const MaybeTensor& weight_up, const Tensor& weight_down_t,
                                     const std::string& activation, const Tensor& threshold,
                                     const MaybeTensor& bias_in, const MaybeTensor& bias_up,
                                     const MaybeTensor& bias_down) {
  check_weight(weight_down_t);
  const int64_t neurons = weight_down_t.size(0);
  for (const Tensor* weight : {&weight_in, weight_up ? &*weight_up : &weight_in}) {
    check_weight(*weight);
    TORCH_CHECK(weight->sizes() == weight_in.sizes() && weight->size(0) == neurons &&
                    weight->scalar_type() == weight_down_t.scalar_type(),
                "all weights must be of ", neurons, " neurons and one dtype");
  }
  TORCH_CHECK(weight_up || !bias_up, "a bias must have weights");
  const Tensor inputs = rows_of(x, weight_in.size(1)), limits = thresholds(threshold, neurons);
  const Tensor offset_in = biases(bias_in, neurons), offset_up = biases(bias_up, neurons);
  const Tensor offset = biases(bias_down, weight_down_t.size(1));
  const int64_t rows = inputs.size(0);
  auto shape = x.sizes().vec();
  shape.back() = neurons;
  Tensor a = at::empty(shape, x.scalar_type());
  const auto run = [&]<typename W>(const W* weight, auto* y) {
    const Neurons<W> made{static_cast<const W*>(weight_in.const_data_ptr()),
                          values_of(offset_in),
                          weight_up ? static_cast<const W*>(weight_up->const_data_ptr()) : nullptr,
                          values_of(offset_up),
                          factors<W>(inputs),
                          inputs.size(1),
                          activation_of(activation),
                          limits.const_data_ptr<float>(),
                          limits.dim(),
                          x.scalar_type() == at::kBFloat16};
    mlp_sums(made, rows, neurons, weight, weight_down_t.size(1), a.data_ptr(), y);
  };
  return {filled(weight_down_t, rows, offset, x, run), a};
}

template <typename W>
void output_sparse_sums(const Tensor& x, const W* weight, const std::vector<int32_t>& named,
                        const float* bias, int64_t n_out, float* y) {
  const int64_t n_in = x.size(1), rows = x.size(0), count = named.size();
  const std::vector<float> values = factors<W>(x);
  const int64_t row_bytes = 1 + n_in * sizeof(W);
  const int64_t together = rows == 1 ? 64 : 4;
  share_out(count, together, 4 + LEAST_BYTES / row_bytes, [&](int64_t begin, int64_t end) {
    float sums[64];
    for (int64_t b = 0; b < rows; ++b) {
      dot(sums, weight, named.data() + begin, end - begin, values.data() + b * n_in, n_in);
      for (int64_t i = 0; i < end - begin; ++i) {
        const int32_t out = named[begin + i];
        y[b * n_out + out] = bias ? sums[i] + bias[out] : sums[i];
      }
    }
  });
}

Tensor output_sparse(const Tensor& x, const Tensor& weight, const Tensor& index,
                     const MaybeTensor& bias) {
  check_weight(weight);
  const int64_t n_out = weight.size(0), n_in = weight.size(1);
  const std::vector<int32_t> named = listed(index, n_out);
  const Tensor rows = rows_of(x, n_in), offset = biases(bias, n_out);
  Tensor y = at::zeros({rows.size(0), n_out}, at::kFloat);
  with_weights(weight, [&](const auto* array) {
    output_sparse_sums(rows, array, named, values_of(offset), n_out, y.data_ptr<float>());
  });
  return finished(y, x);
}

// What attention takes from the residual stream: its norm, queries, keys and values of that, as many
// heads as there are sizes of an angle in them, queries and keys turned.
std::tuple<Tensor, Tensor, Tensor> attention_inputs(const Tensor& x, const Tensor& norm,
                                                    double epsilon, at::TensorList weights_t,
                                                    at::TensorList thresholds,
                                                    const c10::List<MaybeTensor>& biases,
                                                    const Tensor& cos, const Tensor& sin) {
  TORCH_CHECK(weights_t.size() == 3 && thresholds.size() == 3 && biases.size() == 3,
              "queries, keys and values must have a weight, a threshold and a bias or none each");
  TORCH_CHECK(x.dim() == 3 && cos.dim() == 3 && cos.size(2) > 0,
              "x must be (batch, tokens, hidden), and cos (batch or 1, tokens, size)");
  const int64_t size = cos.size(2);
  const Tensor hidden = rms_norm(x, norm, epsilon);
  const auto heads = [&](int64_t i) {
    const Tensor made = input_sparse(hidden, weights_t[i], thresholds[i], biases.get(i));
    TORCH_CHECK(made.size(2) % size == 0, "outputs must be heads of ", size);
    return made.view({x.size(0), x.size(1), -1, size}).transpose(1, 2);
  };
  const Tensor q = heads(0), k = heads(1), v = heads(2);
  return {turned(q, cos, sin), turned(k, cos, sin), v};
}

// The residual stream with what attention of one token adds to it, and its norm.
std::tuple<Tensor, Tensor> attention_added(const Tensor& residual, const Tensor& q, const Tensor& k,
                                           const Tensor& v, double scaling, const Tensor& weight_t,
                                           const Tensor& threshold, const MaybeTensor& bias,
                                           const Tensor& norm, double epsilon) {
  const Tensor heads = attend(q, k, v, scaling).flatten(2);
  const Tensor made = input_sparse(heads, weight_t, threshold, bias);
  TORCH_CHECK(residual.sizes() == made.sizes() && residual.device().is_cpu() &&
                  residual.scalar_type() == made.scalar_type(),
              "the residual stream must be (batch, 1, outputs), of the dtype of the queries");
  const Tensor stream = at::add(residual, made);
  return {stream, rms_norm(stream, norm, epsilon)};
}

Tensor transposed(const Tensor& weight) {
  TORCH_CHECK(weight.dim() >= 2 && weight.device().is_cpu(),
              "weights must be of two dimensions or more, on the CPU");
  const Tensor turned = weight.transpose(-2, -1);
  return empty_in_large_pages(turned.sizes(), weight.scalar_type()).copy_(turned);
}

}  // namespace
}  // namespace lmri

TORCH_LIBRARY(lmri_sparse, library) {
  library.def("input_sparse(Tensor x, Tensor weight_t, Tensor threshold, Tensor? bias) -> Tensor");
  library.def("input_listed(Tensor x, Tensor weight_t, Tensor index, Tensor? bias) -> Tensor");
  library.def("output_sparse(Tensor x, Tensor weight, Tensor index, Tensor? bias) -> Tensor");
  library.def(
      "sparse_mlp(Tensor a, Tensor x, Tensor weight_up, Tensor weight_down_t, Tensor threshold, "
      "Tensor? bias_up, Tensor? bias_down) -> Tensor");
  library.def(
      "whole_mlp(Tensor x, Tensor weight_in, Tensor? weight_up, Tensor weight_down_t, "
      "str activation, Tensor threshold, Tensor? bias_in, Tensor? bias_up, Tensor? bias_down) -> "
      "(Tensor, Tensor)");
  library.def("rms_norm(Tensor x, Tensor weight, float epsilon) -> Tensor");
  library.def("rotary(Tensor q, Tensor k, Tensor cos, Tensor sin) -> (Tensor, Tensor)");
  library.def("attend(Tensor q, Tensor k, Tensor v, float scaling) -> Tensor");
  library.def(
      "append(Tensor(a!) keys, Tensor(b!) values, Tensor new_keys, Tensor new_values, int filled) -> "
      "()");
  library.def(
      "attention_inputs(Tensor x, Tensor norm, float epsilon, Tensor[] weights_t, "
      "Tensor[] thresholds, Tensor?[] biases, Tensor cos, Tensor sin) -> (Tensor, Tensor, Tensor)");
  library.def(
      "attention_added(Tensor residual, Tensor q, Tensor k, Tensor v, float scaling, "
      "Tensor weight_t, Tensor threshold, Tensor? bias, Tensor norm, float epsilon) -> "
      "(Tensor, Tensor)");
  library.def("transposed(Tensor weight) -> Tensor");
}

TORCH_LIBRARY_IMPL(lmri_sparse, CPU, library) {
  library.impl("input_sparse", &lmri::input_sparse);
  library.impl("input_listed", &lmri::input_listed);
  library.impl("output_sparse", &lmri::output_sparse);
  library.impl("sparse_mlp", &lmri::sparse_mlp);
  library.impl("whole_mlp", &lmri::whole_mlp);
  library.impl("rms_norm", &lmri::rms_norm);
  library.impl("rotary", &lmri::rotary);
  library.impl("attend", &lmri::attend);
  library.impl("append", &lmri::append);
  library.impl("attention_inputs", &lmri::attention_inputs);
  library.impl("attention_added", &lmri::attention_added);
  library.impl("transposed", &lmri::transposed);
}
