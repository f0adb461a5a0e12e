// Arguments of operators: values as products read and write them, and checks that keep memory safe.
// These are the only ones that always run: Python makes messages for people where they refuse.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "active.h"
#include "products.h"
#include "sums.h"

namespace lmri {

using at::Tensor;
using MaybeTensor = std::optional<Tensor>;

// Rows of one product, as in checks.py.
constexpr int64_t MOST_ROWS = 8;

inline void check_weight(const Tensor& weight) {
  TORCH_CHECK(weight.dim() == 2 && weight.is_contiguous() && weight.device().is_cpu() &&
                  (weight.scalar_type() == at::kFloat || weight.scalar_type() == at::kBFloat16),
              "weights must be contiguous, of two dimensions, float32 or bfloat16, on the CPU");
  TORCH_CHECK(weight.size(0) < INT32_MAX && weight.size(1) < INT32_MAX, "weights are too large");
}

inline bool is_real(const Tensor& x) {
  return x.device().is_cpu() && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16);
}

// Few: as many as checks.py allows.
inline int64_t check_rows(const Tensor& x, int64_t n_in) {
  int64_t rows = 1;
  for (int64_t i = 0; i + 1 < x.dim(); ++i) rows *= x.size(i);
  TORCH_CHECK(x.dim() >= 1 && x.size(-1) == n_in && is_real(x) && rows >= 1 && rows <= MOST_ROWS,
              "x must be 1 to ", MOST_ROWS, " rows of ", n_in,
              " values, float32 or bfloat16, on the CPU");
  return rows;
}

inline Tensor wide(const Tensor& x) {
  const Tensor rows = x.contiguous();
  if (rows.scalar_type() == at::kFloat) return rows;
  Tensor made = at::empty(rows.sizes(), at::kFloat);
  products().widen(static_cast<const Half*>(rows.const_data_ptr()), made.data_ptr<float>(),
                   rows.numel());
  return made;
}

inline Tensor rows_of(const Tensor& x, int64_t n_in) {
  return wide(x.reshape({check_rows(x, n_in), n_in}));
}

inline Tensor biases(const MaybeTensor& bias, int64_t n_out) {
  if (!bias) return {};
  TORCH_CHECK(bias->dim() == 1 && bias->size(0) == n_out && is_real(*bias),
              "the bias must have ", n_out, " values, float32 or bfloat16, on the CPU");
  return bias->to(at::kFloat).contiguous();
}

inline Tensor thresholds(const Tensor& threshold, int64_t n_in) {
  TORCH_CHECK(threshold.device().is_cpu() && threshold.scalar_type() == at::kFloat &&
                  (threshold.dim() == 0 || (threshold.dim() == 1 && threshold.size(0) == n_in)),
              "the threshold must be float32 on the CPU: one value or ", n_in);
  return threshold.contiguous();
}

inline std::vector<int32_t> listed(const Tensor& index, int64_t size) {
  TORCH_CHECK(index.device().is_cpu() && index.scalar_type() == at::kLong && index.dim() == 1,
              "the index must be int64 of one dimension on the CPU");
  const Tensor named = index.contiguous();
  const int64_t* which = named.const_data_ptr<int64_t>();
  for (int64_t k = 0; k < named.size(0); ++k)
    TORCH_CHECK_INDEX(which[k] > (k == 0 ? -1 : which[k - 1]) && which[k] < size,
                      "the index must name some of ", size, " in ascending order");
  return std::vector<int32_t>(which, which + named.size(0));
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

}  // namespace lmri
