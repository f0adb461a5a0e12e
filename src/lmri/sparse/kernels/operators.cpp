// Sparse products as operators of torch: what is split over threads, and checks that keep memory
// safe. They are the only ones that always run: Python makes messages for people where these refuse.
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "active.h"
#include "pages.h"
#include "products.h"

namespace lmri {
namespace {

using at::Tensor;
using MaybeTensor = std::optional<Tensor>;

// Outputs whose sums stay in the first cache while the weights stream past: 16 KiB.
constexpr int64_t TILE = 4096;
// Weights of a block of channels that several rows share stay in the second cache.
constexpr int64_t BLOCK_BYTES = 256 << 10;
// A sum is split into at most so many parts, of at least so many channels each.
constexpr int64_t MOST_PARTS = 16, LEAST_CHANNELS = 64;
// Rows of one product, as in checks.py.
constexpr int64_t MOST_ROWS = 8;
// float32 values of a line of the cache.
constexpr int64_t LINE = 16;
// Less than this much of the weights is not worth waking a thread for.
constexpr int64_t LEAST_BYTES = 128 << 10;

// The set that torch itself uses: it knows the processor, and ATEN_CPU_CAPABILITY names a lesser.
const Products& choose() {
#if defined(__x86_64__)
  const std::string capability = at::get_cpu_capability();
  if (capability.rfind("AVX512", 0) == 0) return avx512_products;
  if (capability.rfind("AVX2", 0) == 0) return avx2_products;
#endif
  return portable_products;
}

const Products& products() {
  static const Products& chosen = choose();
  return chosen;
}

void add(float* sums, const float* weight, int64_t stride, const int32_t* channels,
         const float* values, int64_t count, int64_t more, int64_t width) {
  products().add_floats(sums, weight, stride, channels, values, count, more, width);
}

void add(float* sums, const Half* weight, int64_t stride, const int32_t* channels,
         const float* values, int64_t count, int64_t more, int64_t width) {
  products().add_halves(sums, weight, stride, channels, values, count, more, width);
}

void dot(float* y, const float* weight, const int32_t* rows, int64_t count, const float* x,
         int64_t n) {
  products().dot_floats(y, weight, rows, count, x, n);
}

void dot(float* y, const Half* weight, const int32_t* rows, int64_t count, const float* x,
         int64_t n) {
  products().dot_halves(y, weight, rows, count, x, n);
}

// Call with the weights as an array of their type.
template <typename Run>
void with_weights(const Tensor& weight, const Run& run) {
  if (weight.scalar_type() == at::kFloat)
    run(weight.const_data_ptr<float>());
  else
    run(static_cast<const Half*>(weight.const_data_ptr()));
}

// Rows of x in the order in which weights of type W are multiplied.
template <typename W>
std::vector<float> factors(const Tensor& x) {
  const int64_t n = x.size(1);
  std::vector<float> made(x.numel());
  for (int64_t b = 0; b < x.size(0); ++b) {
    const float* row = x.const_data_ptr<float>() + b * n;
    if (sizeof(W) == sizeof(Half))
      pair(row, made.data() + b * n, n, products().lanes);
    else
      std::copy(row, row + n, made.data() + b * n);
  }
  return made;
}

// The up projection of a gated MLP: values of active neurons are multiplied with it.
template <typename W>
struct Up {
  const W* weight;
  const float* bias;  // or none
  std::vector<float> x;
  int64_t n_in;

  void multiply(Active& active, int64_t b, int64_t from, int64_t to) const {
    constexpr int64_t AT_ONCE = 64;
    float sums[AT_ONCE];
    const int32_t* channels = active.channels(b);
    float* values = active.rows[b].values.data();
    for (int64_t k = from; k < to; k += AT_ONCE) {
      const int64_t count = std::min(AT_ONCE, to - k);
      dot(sums, weight, channels + k, count, x.data() + b * n_in, n_in);
      for (int64_t i = 0; i < count; ++i)
        values[k + i] *= bias ? sums[i] + bias[channels[k + i]] : sums[i];
    }
  }
};

// How many threads are worth waking for pieces of work of which a thread needs `grain` at least.
int64_t count_threads(int64_t pieces, int64_t grain) {
  return std::min<int64_t>(at::get_num_threads(), std::max<int64_t>(1, pieces / grain));
}

// Call with 0..count, `step` at a time. Every thread takes what is left next: one that starts late,
// or waits for memory or for its processor, does not hold up the others.
template <typename Run>
void share_out(int64_t count, int64_t step, int64_t grain, const Run& run) {
  std::atomic<int64_t> next{0};
  at::parallel_for(0, count_threads(count, std::max(grain, step)), 1, [&](int64_t, int64_t) {
    for (int64_t k; (k = next.fetch_add(step, std::memory_order_relaxed)) < count;)
      run(k, std::min(k + step, count));
  });
}

// Call with each of the parts, a power of two, and add up what it leaves in `size` values of `sums`
// a part: in pairs, pairs of pairs and so on, so that the bits do not depend on who does what. The
// total is then that of the first part. A thread begins with neighbours of its own, the same ones
// in every call: their sums lie in its cache, and few have to come from that of another. It then
// takes over what others have left.
template <typename Run>
void sum_parts(int64_t parts, int64_t grain, float* sums, int64_t size, const Run& run) {
  std::atomic<bool> taken[MOST_PARTS]{};
  std::atomic<bool> one_is_there[MOST_PARTS]{};  // by pair: 1 is the last, 2 and 3 are before it
  const auto take = [&](int64_t part) {
    if (taken[part].exchange(true)) return;
    run(part);
    for (int64_t width = 1, pair = (parts + part) / 2; width < parts; width *= 2, pair /= 2) {
      if (!one_is_there[pair].exchange(true)) return;  // who comes second adds
      float* first = sums + part / (2 * width) * (2 * width) * size;
      products().sum(first, first + width * size, size);
    }
  };
  const int64_t threads = count_threads(parts, grain);
  at::parallel_for(0, threads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t part = parts * begin / threads; part < parts * end / threads; ++part) take(part);
    for (int64_t part = parts - 1; part >= 0; --part) take(part);
  });
}

// The number of parts depends on the number of channels and not on that of threads, and so do the
// bits of the sums. A power of two is shared out evenly among the usual numbers of threads.
int64_t count_parts(int64_t channels) {
  int64_t parts = 1;
  while (parts * 2 <= MOST_PARTS && parts * 2 * LEAST_CHANNELS <= channels) parts *= 2;
  return parts;
}

// Parts hold whole passes of an inner loop, but for the last.
int64_t start_of(int64_t part, int64_t parts, int64_t channels) {
  return part == parts ? channels : channels * part / parts / PASS * PASS;
}

// Call with every row and where its channels lie, for one block after another of the channels
// first..last of the union.
template <typename Run>
void for_blocks(const Active& active, int64_t first, int64_t last, int64_t block, const Run& run) {
  const int64_t rows = active.rows.size();
  for (int64_t k = first; k < last; k += block) {
    const int32_t begin = active.all[k], end = active.all[std::min(k + block, last) - 1] + 1;
    for (int64_t b = 0; b < rows; ++b) run(b, active.find(b, begin), active.find(b, end));
  }
}

// How many channels several rows go through together.
int64_t block_of(int64_t rows, int64_t channel_bytes, int64_t channels) {
  if (rows == 1) return std::max<int64_t>(1, channels);
  return std::max<int64_t>(16, BLOCK_BYTES / std::max<int64_t>(1, channel_bytes));
}

// Add the channels first..last of the union to the sums of every row. A row reads only its own.
template <typename W>
void add_part(const Active& active, int64_t first, int64_t last, const W* weight, int64_t n_out,
              int64_t row_size, float* sums) {
  for (int64_t tile = 0; tile < n_out; tile += TILE) {
    const int64_t width = std::min(TILE, n_out - tile);
    const int64_t block = block_of(active.rows.size(), width * sizeof(W), last - first);
    for_blocks(active, first, last, block, [&](int64_t b, int64_t from, int64_t to) {
      add(sums + b * row_size + tile, weight + tile, n_out, active.channels(b) + from,
          active.rows[b].values.data() + from, to - from, active.rows[b].count - to, width);
    });
  }
}

// Room for sums, from the start of a line of the cache on: a register of sums that lies across two
// takes twice the traffic. Kept from call to call: memory that is new to a process costs more than
// filling it.
float* workspace(int64_t size) {
  thread_local std::vector<float> kept;
  if (static_cast<int64_t>(kept.size()) < size + LINE) kept.resize(size + LINE);
  return kept.data() + (LINE - reinterpret_cast<uintptr_t>(kept.data()) / sizeof(float) % LINE);
}

// Sums of weights of type W as values of type Y, in natural order.
template <typename W, typename Y>
void put(const float* sums, Y* y, int64_t n) {
  if constexpr (sizeof(W) == sizeof(float))
    std::copy(sums, sums + n, y);
  else if constexpr (sizeof(Y) == sizeof(float))
    unpair(sums, y, n, products().lanes);
  else
    products().narrow(sums, y, n);
}

// y = sums over the active channels, each multiplied with its up projection before if there is one.
template <typename W, typename Y>
void input_sparse_sums(Active& active, const W* weight, int64_t n_out, const Up<W>* up, Y* y) {
  const int64_t rows = active.rows.size(), n_active = active.all.size();
  const int64_t row_size = (n_out + LINE - 1) / LINE * LINE, size = rows * row_size;
  const int64_t parts = count_parts(n_active);
  float* sums = workspace(parts * size);
  const int64_t up_bytes = up ? up->n_in * sizeof(W) : 0;
  const int64_t part_bytes = 1 + n_active * (n_out * sizeof(W) + up_bytes) / parts;
  const int64_t grain = 1 + LEAST_BYTES / part_bytes;
  sum_parts(parts, grain, sums, size, [&](int64_t part) {
    const int64_t first = start_of(part, parts, n_active);
    const int64_t last = start_of(part + 1, parts, n_active);
    if (up)
      for_blocks(active, first, last, block_of(rows, up_bytes, last - first),
                 [&](int64_t b, int64_t from, int64_t to) { up->multiply(active, b, from, to); });
    std::memset(sums + part * size, 0, size * sizeof(float));
    add_part(active, first, last, weight, n_out, row_size, sums + part * size);
  });
  for (int64_t b = 0; b < rows; ++b) put<W>(sums + b * row_size, y + b * n_out, n_out);
}

void check_weight(const Tensor& weight) {
  TORCH_CHECK(weight.dim() == 2 && weight.is_contiguous() && weight.device().is_cpu() &&
                  (weight.scalar_type() == at::kFloat || weight.scalar_type() == at::kBFloat16),
              "weights must be contiguous, of two dimensions, float32 or bfloat16, on the CPU");
  TORCH_CHECK(weight.size(0) < INT32_MAX && weight.size(1) < INT32_MAX, "weights are too large");
}

bool is_real(const Tensor& x) {
  return x.device().is_cpu() && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16);
}

// Few: as many as checks.py allows.
Tensor rows_of(const Tensor& x, int64_t n_in) {
  TORCH_CHECK((x.dim() == 1 || x.dim() == 2) && x.size(-1) == n_in && is_real(x) &&
                  (x.dim() == 1 || (x.size(0) >= 1 && x.size(0) <= MOST_ROWS)),
              "x must be 1 to ", MOST_ROWS, " rows of ", n_in,
              " values, float32 or bfloat16, on the CPU");
  const Tensor rows = x.reshape({-1, n_in}).contiguous();
  if (rows.scalar_type() == at::kFloat) return rows;
  Tensor wide = at::empty(rows.sizes(), at::kFloat);
  products().widen(static_cast<const Half*>(rows.const_data_ptr()), wide.data_ptr<float>(),
                   rows.numel());
  return wide;
}

Tensor biases(const MaybeTensor& bias, int64_t n_out) {
  if (!bias) return {};
  TORCH_CHECK(bias->dim() == 1 && bias->size(0) == n_out && is_real(*bias),
              "the bias must have ", n_out, " values, float32 or bfloat16, on the CPU");
  return bias->to(at::kFloat).contiguous();
}

Tensor thresholds(const Tensor& threshold, int64_t n_in) {
  TORCH_CHECK(threshold.device().is_cpu() && threshold.scalar_type() == at::kFloat &&
                  (threshold.dim() == 0 || (threshold.dim() == 1 && threshold.size(0) == n_in)),
              "the threshold must be float32 on the CPU: one value or ", n_in);
  return threshold.contiguous();
}

std::vector<int32_t> listed(const Tensor& index, int64_t size) {
  TORCH_CHECK(index.device().is_cpu() && index.scalar_type() == at::kLong && index.dim() == 1,
              "the index must be int64 of one dimension on the CPU");
  const Tensor named = index.contiguous();
  const int64_t* which = named.const_data_ptr<int64_t>();
  for (int64_t k = 0; k < named.size(0); ++k)
    TORCH_CHECK_INDEX(which[k] > (k == 0 ? -1 : which[k - 1]) && which[k] < size,
                      "the index must name some of ", size, " in ascending order");
  return std::vector<int32_t>(which, which + named.size(0));
}

Tensor finished(const Tensor& y, const Tensor& x) {
  return (x.dim() == 1 ? y.squeeze(0) : y).to(x.scalar_type());
}

// Sums over the active channels, plus a bias if there is one, of the dtype and leading shape of x.
Tensor products_of(Active& active, const Tensor& weight_t, const Tensor& inputs,
                   const Tensor& weight_up, const Tensor& up_offset, const Tensor& offset,
                   const Tensor& x) {
  const int64_t n_out = weight_t.size(1), rows = active.rows.size();
  // Without a bias, bfloat16 is written as it is rounded, which saves two passes over y.
  const bool narrow = x.scalar_type() == at::kBFloat16 &&
                      weight_t.scalar_type() == at::kBFloat16 && !offset.defined();
  Tensor y = at::empty({rows, n_out}, narrow ? at::kBFloat16 : at::kFloat);
  with_weights(weight_t, [&]<typename W>(const W* weight) {
    std::optional<Up<W>> up;
    if (weight_up.defined())
      up.emplace(static_cast<const W*>(weight_up.const_data_ptr()),
                 up_offset.defined() ? up_offset.const_data_ptr<float>() : nullptr,
                 factors<W>(inputs), inputs.size(1));
    const Up<W>* used = up ? &*up : nullptr;
    if constexpr (sizeof(W) == sizeof(Half))
      if (narrow)
        return input_sparse_sums(active, weight, n_out, used, static_cast<Half*>(y.data_ptr()));
    input_sparse_sums(active, weight, n_out, used, y.data_ptr<float>());
  });
  if (offset.defined()) y.add_(offset);
  return finished(y, x);
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
  TORCH_CHECK(a.dim() == x.dim() && gates.size(0) == inputs.size(0),
              "a and x must have the same leading shape");
  const Tensor limits = thresholds(threshold, neurons);
  const Tensor up_offset = biases(bias_up, neurons), offset = biases(bias_down, n_out);
  Active active(products(), gates, limits);
  return products_of(active, weight_down_t, inputs, weight_up, up_offset, offset, a);
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
    const float* added = offset.defined() ? offset.const_data_ptr<float>() : nullptr;
    output_sparse_sums(rows, array, named, added, n_out, y.data_ptr<float>());
  });
  return finished(y, x);
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
  library.def("transposed(Tensor weight) -> Tensor");
}

TORCH_LIBRARY_IMPL(lmri_sparse, CPU, library) {
  library.impl("input_sparse", &lmri::input_sparse);
  library.impl("input_listed", &lmri::input_listed);
  library.impl("output_sparse", &lmri::output_sparse);
  library.impl("sparse_mlp", &lmri::sparse_mlp);
  library.impl("transposed", &lmri::transposed);
}
