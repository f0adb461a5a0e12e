// Inner loops of sparse products, one set for each instruction set of a processor.
//
// products.cpp is compiled once for each set, with flags of its own, and includes nothing of the
// standard library that could leave code of the wrong set in a function the linker shares.
#pragma once

#include <cstdint>

namespace lmri {

// Elements of a vector register that a compaction may write beyond the last active channel.
constexpr int64_t SLACK = 16;

// Rows of weights that one pass of an inner loop goes through at most.
constexpr int64_t PASS = 8;

// bfloat16 weights are the upper halves of float32 values.
using Half = uint16_t;

// Products with Half weights read two registers of weights as one of 32 bit words, whose upper and
// lower halves are taken apart. Sums and factors that meet them are in paired order: each block of
// 2 * lanes holds those of even number first. What is left over at the end is in natural order.
struct Products {
  int64_t lanes;  // float32 values of a register
  // List the channels with !(|x| <= threshold), and their values; returns how many. The step of the
  // threshold is 0 (one for all channels) or 1. The lists need room for n + SLACK.
  int64_t (*compact)(const float* x, const float* threshold, int64_t step, int64_t n,
                     int32_t* channels, float* values);
  // sums[j] += sum over k < count of values[k] * weight[channels[k] * stride + j], j < width; in
  // the order of k, one fused multiply and add each. With halves, the sums are in paired order.
  // The channels after these, `more` of them, are likely to be asked for next.
  void (*add_floats)(float* sums, const float* weight, int64_t stride, const int32_t* channels,
                     const float* values, int64_t count, int64_t more, int64_t width);
  void (*add_halves)(float* sums, const Half* weight, int64_t stride, const int32_t* channels,
                     const float* values, int64_t count, int64_t more, int64_t width);
  // y[k] = sum over i of weight[rows[k] * n + i] * x[i], k < count. With halves, x is in paired
  // order.
  void (*dot_floats)(float* y, const float* weight, const int32_t* rows, int64_t count,
                     const float* x, int64_t n);
  void (*dot_halves)(float* y, const Half* weight, const int32_t* rows, int64_t count,
                     const float* x, int64_t n);
  // to[i] += from[i].
  void (*sum)(float* to, const float* from, int64_t n);
  // values[i] = exp(values[i] - most), at most 1; returns their sum.
  double (*exponentials)(float* values, float most, int64_t n);
  // to[i] = from[i].
  void (*widen)(const Half* from, float* to, int64_t n);
  // Sums of paired order in natural order, rounded to the nearest as torch rounds: ties to even.
  void (*narrow)(const float* paired, Half* to, int64_t n);
};

extern const Products portable_products;
#if defined(__x86_64__)
extern const Products avx2_products;
extern const Products avx512_products;
#endif

}  // namespace lmri
