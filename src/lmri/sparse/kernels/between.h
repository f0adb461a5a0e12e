// What lies between products: norms, turned queries and keys, caches, attention of one token.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/util/BFloat16.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <tuple>
#include <utility>
#include <vector>

#include "active.h"
#include "arguments.h"
#include "sums.h"

namespace lmri {

inline float widened(float value) { return value; }

inline float widened(c10::BFloat16 value) { return value; }

// What modules do, in their order: float32, rounded to the type of x before the weights and after.
template <typename T>
void normalise(const T* x, const T* weight, float epsilon, int64_t n, T* y) {
  float* values = workspace(n);
  for (int64_t i = 0; i < n; ++i) values[i] = widened(x[i]);
  const int32_t first = 0;
  float squares;
  dot(&squares, values, &first, 1, values, n);
  const float scale = 1 / std::sqrt(squares / n + epsilon);
  for (int64_t i = 0; i < n; ++i)
    y[i] = static_cast<T>(widened(weight[i]) * widened(static_cast<T>(values[i] * scale)));
}

inline Tensor rms_norm(const Tensor& x, const Tensor& weight, double epsilon) {
  const int64_t n = weight.numel();
  TORCH_CHECK(weight.dim() == 1 && n && is_real(weight) && weight.is_contiguous(),
              "weights must be contiguous, of one dimension, float32 or bfloat16, on the CPU");
  TORCH_CHECK(x.dim() >= 1 && x.size(-1) == n && is_real(x), "x must be rows of ", n,
              " values, float32 or bfloat16, on the CPU");
  TORCH_CHECK(x.scalar_type() == weight.scalar_type(), "x and weights must be of one dtype");
  const Tensor values = x.contiguous();
  Tensor y = at::empty(x.sizes(), x.scalar_type());
  const auto run = [&]<typename T>(const T* weights) {
    for (int64_t at = 0; at < x.numel(); at += n)
      normalise(values.const_data_ptr<T>() + at, weights, epsilon, n, y.data_ptr<T>() + at);
  };
  if (x.scalar_type() == at::kFloat)
    run(weight.const_data_ptr<float>());
  else
    run(weight.const_data_ptr<c10::BFloat16>());
  return y;
}

// Turn pairs of channels (i, i + n / 2) of n by angles, each product rounded, as modules do.
template <typename T>
void rotate(const T* x, const T* cos, const T* sin, int64_t n, T* y) {
  const auto times = [](T a, T b) { return widened(static_cast<T>(widened(a) * widened(b))); };
  for (int64_t i = 0; i < n / 2; ++i) {
    const int64_t j = i + n / 2;
    y[i] = static_cast<T>(times(x[i], cos[i]) - times(x[j], sin[i]));
    y[j] = static_cast<T>(times(x[j], cos[j]) + times(x[i], sin[j]));
  }
}

inline Tensor turned(const Tensor& x, const Tensor& cos, const Tensor& sin) {
  TORCH_CHECK(x.dim() == 4 && is_real(x) && x.size(3) % 2 == 0,
              "queries and keys must be (batch, heads, tokens, size) of an even size, float32 or "
              "bfloat16, on the CPU");
  const int64_t batch = x.size(0), heads = x.size(1), tokens = x.size(2), n = x.size(3);
  for (const Tensor* angles : {&cos, &sin})
    TORCH_CHECK(angles->dim() == 3 && (angles->size(0) == batch || angles->size(0) == 1) &&
                    angles->size(1) == tokens && angles->size(2) == n &&
                    angles->sizes() == cos.sizes() && angles->device().is_cpu() &&
                    angles->scalar_type() == x.scalar_type(),
                "cos and sin must be (batch or 1, tokens, size), of the dtype of the queries");
  const Tensor values = x.stride(3) == 1 ? x : x.contiguous();
  const Tensor cosines = cos.contiguous(), sines = sin.contiguous();
  Tensor y = at::empty(x.sizes(), x.scalar_type());
  const auto run = [&]<typename T>(T* made) {
    for (int64_t b = 0; b < batch; ++b)
      for (int64_t h = 0; h < heads; ++h)
        for (int64_t t = 0; t < tokens; ++t) {
          const int64_t angle = ((cos.size(0) == 1 ? 0 : b) * tokens + t) * n;
          const int64_t from = b * values.stride(0) + h * values.stride(1) + t * values.stride(2);
          rotate(values.const_data_ptr<T>() + from, cosines.const_data_ptr<T>() + angle,
                 sines.const_data_ptr<T>() + angle, n, made + ((b * heads + h) * tokens + t) * n);
        }
  };
  if (x.scalar_type() == at::kFloat)
    run(y.data_ptr<float>());
  else
    run(y.data_ptr<c10::BFloat16>());
  return y;
}

inline std::tuple<Tensor, Tensor> rotary(const Tensor& q, const Tensor& k, const Tensor& cos,
                                         const Tensor& sin) {
  return {turned(q, cos, sin), turned(k, cos, sin)};
}

// Keys or values of one head after another, the channels of each position in one run.
inline Tensor by_position(const Tensor& x) {
  return x.stride(3) == 1 && x.stride(2) == x.size(3) ? x : x.contiguous();
}

// Keys whose values are added up before the next: many small ones would be lost beside a large sum.
constexpr int64_t KEYS_AT_ONCE = 512;

// What one query makes of the keys and values of a head: weights are exp(scaling * score), over
// their sum, in float32. `channels` counts the keys.
template <typename W>
void attend_one(const float* query, const W* key, const W* value, float scaling,
                const std::vector<int32_t>& channels, int64_t n, int64_t n_value, W* y) {
  const int64_t keys = channels.size(), size = (n_value + LINE - 1) / LINE * LINE;
  float* sums = workspace(2 * size + keys);
  float *some = sums + size, *weights = some + size;
  dot(weights, key, channels.data(), keys, query, n);
  for (int64_t i = 0; i < keys; ++i) weights[i] *= scaling;
  const float most = *std::max_element(weights, weights + keys);
  const float part = 1 / products().exponentials(weights, most, keys);
  for (int64_t i = 0; i < keys; ++i) weights[i] *= part;
  std::memset(sums, 0, n_value * sizeof(float));
  for (int64_t k = 0; k < keys; k += KEYS_AT_ONCE) {
    const int64_t count = std::min(KEYS_AT_ONCE, keys - k);
    std::memset(some, 0, n_value * sizeof(float));
    add(some, value, n_value, channels.data() + k, weights + k, count, keys - k - count, n_value);
    products().sum(sums, some, n_value);
  }
  put<W>(sums, y, n_value);
}

template <typename W>
void attend_all(const Tensor& q, const Tensor& k, const Tensor& v, float scaling, W* y) {
  const int64_t heads = q.size(1), key_heads = k.size(1), sharing = heads / key_heads;
  const int64_t keys = k.size(2), n = k.size(3), n_value = v.size(3);
  const auto* key = static_cast<const W*>(k.const_data_ptr());
  const auto* value = static_cast<const W*>(v.const_data_ptr());
  const std::vector<float> queries = factors<W>(wide(q).view({-1, n}));
  std::vector<int32_t> channels(keys);
  std::iota(channels.begin(), channels.end(), 0);
  // Queries that share keys and values go one after another, unless threads would have nothing.
  const int64_t together = q.size(0) * key_heads < at::get_num_threads() ? 1 : sharing;
  const int64_t bytes = keys * (n + n_value) * sizeof(W);
  share_out(q.numel() / n, together, 1 + LEAST_BYTES / bytes, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t b = row / heads, h = row % heads / sharing;
      attend_one(queries.data() + row * n, key + b * k.stride(0) + h * k.stride(1),
                 value + b * v.stride(0) + h * v.stride(1), scaling, channels, n, n_value,
                 y + row * n_value);
    }
  });
}

// Of one token of every sequence, which sees all keys.
inline Tensor attend(const Tensor& q, const Tensor& k, const Tensor& v, double scaling) {
  for (const Tensor* x : {&q, &k, &v})
    TORCH_CHECK(x->dim() == 4 && is_real(*x) && x->scalar_type() == q.scalar_type() &&
                    x->size(0) == q.size(0) && x->numel(),
                "queries, keys and values must be (batch, heads, tokens, size), of one dtype, "
                "float32 or bfloat16, on the CPU");
  TORCH_CHECK(q.size(2) == 1 && k.size(3) == q.size(3) && q.size(1) % k.size(1) == 0 &&
                  v.size(1) == k.size(1) && v.size(2) == k.size(2),
              "queries must be of one token, and share heads of keys and values");
  TORCH_CHECK(k.size(2) < INT32_MAX, "there are too many keys");
  const Tensor keys = by_position(k), values = by_position(v);
  Tensor y = at::empty({q.size(0), 1, q.size(1), v.size(3)}, q.scalar_type());
  if (q.scalar_type() == at::kFloat)
    attend_all(q, keys, values, scaling, y.data_ptr<float>());
  else
    attend_all(q, keys, values, scaling, static_cast<Half*>(y.data_ptr()));
  return y;
}

// Write keys and values of new tokens behind the `filled` that are there.
inline void append(const Tensor& keys, const Tensor& values, const Tensor& new_keys,
                   const Tensor& new_values, int64_t filled) {
  const int64_t count = new_keys.dim() == 4 ? new_keys.size(2) : 0;
  for (const auto& [memory, added] : {std::pair(&keys, &new_keys), {&values, &new_values}}) {
    TORCH_CHECK(memory->dim() == 4 && added->dim() == 4 && is_real(*memory) && is_real(*added) &&
                    memory->scalar_type() == added->scalar_type(),
                "keys and values must be (batch, heads, tokens, size), of one dtype, float32 or "
                "bfloat16, on the CPU");
    TORCH_CHECK(memory->size(0) == added->size(0) && memory->size(1) == added->size(1) &&
                    memory->size(3) == added->size(3) && added->size(2) == count,
                "new keys and values must be of as many sequences, heads and channels, and both of "
                "as many tokens");
    TORCH_CHECK(0 <= filled && filled + count <= memory->size(2), "there is no room");
  }
  keys.narrow(2, filled, count).copy_(new_keys);
  values.narrow(2, filled, count).copy_(new_values);
}

}  // namespace lmri
