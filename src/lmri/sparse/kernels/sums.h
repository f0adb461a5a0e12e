// What all products share: the instructions used, and sums that threads split between them.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/Version.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <vector>

#include "products.h"

namespace lmri {

// A sum is split into at most so many parts, of at least so many channels each.
constexpr int64_t MOST_PARTS = 16, LEAST_CHANNELS = 64;
// float32 values of a line of the cache.
constexpr int64_t LINE = 16;
// Less than this much of the weights is not worth waking a thread for.
constexpr int64_t LEAST_BYTES = 128 << 10;

// The set that torch itself uses: it knows the processor, and ATEN_CPU_CAPABILITY names a lesser.
inline const Products& choose() {
#if defined(__x86_64__)
  const std::string capability = at::get_cpu_capability();
  if (capability.rfind("AVX512", 0) == 0) return avx512_products;
  if (capability.rfind("AVX2", 0) == 0) return avx2_products;
#endif
  return portable_products;
}

inline const Products& products() {
  static const Products& chosen = choose();
  return chosen;
}

inline void add(float* sums, const float* weight, int64_t stride, const int32_t* channels,
                const float* values, int64_t count, int64_t more, int64_t width) {
  products().add_floats(sums, weight, stride, channels, values, count, more, width);
}

inline void add(float* sums, const Half* weight, int64_t stride, const int32_t* channels,
                const float* values, int64_t count, int64_t more, int64_t width) {
  products().add_halves(sums, weight, stride, channels, values, count, more, width);
}

inline void dot(float* y, const float* weight, const int32_t* rows, int64_t count, const float* x,
                int64_t n) {
  products().dot_floats(y, weight, rows, count, x, n);
}

inline void dot(float* y, const Half* weight, const int32_t* rows, int64_t count, const float* x,
                int64_t n) {
  products().dot_halves(y, weight, rows, count, x, n);
}

// How many threads are worth waking for pieces of work of which a thread needs `grain` at least.
inline int64_t count_threads(int64_t pieces, int64_t grain) {
  return std::min<int64_t>(at::get_num_threads(), std::max<int64_t>(1, pieces / grain));
}

// Call with 0..count, `step` at a time. Every thread takes what is left next: one that starts late,
// or waits for memory or for its processor, does not hold up the others.
template <typename Run>
inline void share_out(int64_t count, int64_t step, int64_t grain, const Run& run) {
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
inline void sum_parts(int64_t parts, int64_t grain, float* sums, int64_t size, const Run& run) {
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
inline int64_t count_parts(int64_t channels) {
  int64_t parts = 1;
  while (parts * 2 <= MOST_PARTS && parts * 2 * LEAST_CHANNELS <= channels) parts *= 2;
  return parts;
}

// Parts hold whole passes of an inner loop, but for the last.
inline int64_t start_of(int64_t part, int64_t parts, int64_t channels) {
  return part == parts ? channels : channels * part / parts / PASS * PASS;
}

// Room for sums, from the start of a line of the cache on: a register of sums that lies across two
// takes twice the traffic. Kept from call to call: memory that is new to a process costs more than
// filling it.
inline float* workspace(int64_t size) {
  thread_local std::vector<float> kept;
  if (static_cast<int64_t>(kept.size()) < size + LINE) kept.resize(size + LINE);
  return kept.data() + (LINE - reinterpret_cast<uintptr_t>(kept.data()) / sizeof(float) % LINE);
}

}  // namespace lmri
