// Which channels of which rows are active, and the order of values that halves ask for.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <vector>

#include "products.h"

namespace lmri {

// Active channels of every row of x with their values, in ascending order, and their union.
class Active {
 public:
  struct Row {
    std::vector<int32_t> channels;
    std::vector<float> values;
    int64_t count;
  };
  std::vector<Row> rows;
  std::vector<int32_t> all;

  // Those with !(|x| <= threshold).
  Active(const Products& products, const at::Tensor& x, const at::Tensor& threshold)
      : rows(x.size(0)) {
    const int64_t n = x.size(1);
    for (size_t b = 0; b < rows.size(); ++b) {
      rows[b].channels.resize(n + SLACK);
      rows[b].values.resize(n + SLACK);
      rows[b].count = products.compact(
          x.const_data_ptr<float>() + b * n, threshold.const_data_ptr<float>(),
          threshold.dim(), n, rows[b].channels.data(), rows[b].values.data());
    }
    if (rows.size() == 1) {
      all.swap(rows[0].channels);
      all.resize(rows[0].count);
    } else {
      unite(n);
    }
  }

  // Those listed, of every row.
  Active(const at::Tensor& x, const std::vector<int32_t>& listed) : rows(x.size(0)), all(listed) {
    const int64_t n = x.size(1);
    for (size_t b = 0; b < rows.size(); ++b) {
      const float* from = x.const_data_ptr<float>() + b * n;
      if (rows.size() > 1) rows[b].channels = listed;
      rows[b].count = listed.size();
      rows[b].values.resize(listed.size());
      for (size_t k = 0; k < listed.size(); ++k) rows[b].values[k] = from[listed[k]];
    }
  }

  const int32_t* channels(size_t b) const {
    return rows.size() == 1 ? all.data() : rows[b].channels.data();
  }

  // Where the channels of a row from this one on begin.
  int64_t find(size_t b, int32_t channel) const {
    const int32_t* first = channels(b);
    return std::lower_bound(first, first + rows[b].count, channel) - first;
  }

 private:
  void unite(int64_t n) {
    std::vector<uint8_t> active(n, 0);
    for (const Row& row : rows)
      for (int64_t k = 0; k < row.count; ++k) active[row.channels[k]] = 1;
    for (int64_t j = 0; j < n; ++j)
      if (active[j]) all.push_back(static_cast<int32_t>(j));
  }
};

// See products.h.
inline void pair(const float* natural, float* paired, int64_t n, int64_t lanes) {
  int64_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes)
    for (int64_t lane = 0; lane < lanes; ++lane) {
      paired[i + lane] = natural[i + 2 * lane];
      paired[i + lanes + lane] = natural[i + 2 * lane + 1];
    }
  for (; i < n; ++i) paired[i] = natural[i];
}

inline void unpair(const float* paired, float* natural, int64_t n, int64_t lanes) {
  int64_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes)
    for (int64_t lane = 0; lane < lanes; ++lane) {
      natural[i + 2 * lane] = paired[i + lane];
      natural[i + 2 * lane + 1] = paired[i + lanes + lane];
    }
  for (; i < n; ++i) natural[i] = paired[i];
}

}  // namespace lmri
