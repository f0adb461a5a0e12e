// Sums over the channels that are active, or over a part of them.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "active.h"
#include "arguments.h"
#include "sums.h"

namespace lmri {

// Outputs whose sums stay in the first cache while the weights stream past: 16 KiB.
constexpr int64_t TILE = 4096;
// Weights of a block of channels that several rows share stay in the second cache.
constexpr int64_t BLOCK_BYTES = 256 << 10;
// Neurons of an MLP that are computed before the next product takes them up.
constexpr int64_t AT_ONCE = 128;

// The up projection of a gated MLP: values of active neurons are multiplied with it.
template <typename W>
struct Up {
  const W* weight;
  const float* bias;  // or none
  std::vector<float> x;
  int64_t n_in;

  void multiply(Active& active, int64_t b, int64_t from, int64_t to) const {
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
inline int64_t block_of(int64_t rows, int64_t channel_bytes, int64_t channels) {
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

// y = sums of parts, which take `bytes` of the weights together and of which `run` makes one each,
// in sums of its own that start at 0, a row every `row_size`.
template <typename W, typename Y, typename Run>
void sum_up(int64_t rows, int64_t n_out, int64_t parts, int64_t bytes, Y* y, const Run& run) {
  const int64_t row_size = (n_out + LINE - 1) / LINE * LINE, size = rows * row_size;
  float* sums = workspace(parts * size);
  sum_parts(parts, 1 + LEAST_BYTES / (1 + bytes / parts), sums, size, [&](int64_t part) {
    std::memset(sums + part * size, 0, size * sizeof(float));
    run(part, sums + part * size, row_size);
  });
  for (int64_t b = 0; b < rows; ++b) put<W>(sums + b * row_size, y + b * n_out, n_out);
}

// y = sums over the active channels, each multiplied with its up projection before if there is one.
template <typename W, typename Y>
void input_sparse_sums(Active& active, const W* weight, int64_t n_out, const Up<W>* up, Y* y) {
  const int64_t rows = active.rows.size(), n_active = active.all.size();
  const int64_t parts = count_parts(n_active), up_bytes = up ? up->n_in * sizeof(W) : 0;
  const int64_t bytes = n_active * (n_out * sizeof(W) + up_bytes);
  sum_up<W>(rows, n_out, parts, bytes, y, [&](int64_t part, float* sums, int64_t row_size) {
    const int64_t first = start_of(part, parts, n_active);
    const int64_t last = start_of(part + 1, parts, n_active);
    if (up)
      for_blocks(active, first, last, block_of(rows, up_bytes, last - first),
                 [&](int64_t b, int64_t from, int64_t to) { up->multiply(active, b, from, to); });
    add_part(active, first, last, weight, n_out, row_size, sums);
  });
}

}  // namespace lmri
