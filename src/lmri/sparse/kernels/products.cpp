// See products.h. LMRI_SET names the set, LMRI_BYTES is the size of its vector registers.
#include "products.h"

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace lmri {
namespace {

constexpr int64_t LANES = LMRI_BYTES / 4;
typedef float Floats __attribute__((vector_size(LMRI_BYTES)));
typedef uint32_t Words __attribute__((vector_size(LMRI_BYTES)));
typedef float FloatsAnywhere __attribute__((vector_size(LMRI_BYTES), aligned(4), may_alias));
typedef uint32_t WordsAnywhere __attribute__((vector_size(LMRI_BYTES), aligned(2), may_alias));

inline Floats load(const float* from) { return *reinterpret_cast<const FloatsAnywhere*>(from); }

inline void store(float* to, Floats values) { *reinterpret_cast<FloatsAnywhere*>(to) = values; }

struct Two {
  Floats low, high;
};

inline Two load_two(const float* from) { return {load(from), load(from + LANES)}; }

// Those of even number, then those of odd number: see products.h. To bring them into order here
// would take more instructions than the product itself.
inline Two load_two(const Half* from) {
  const Words words = *reinterpret_cast<const WordsAnywhere*>(from);
  return {reinterpret_cast<Floats>(words << 16), reinterpret_cast<Floats>(words & 0xffff0000u)};
}

inline float widen(float value) { return value; }

inline float widen(Half value) {
  const uint32_t bits = static_cast<uint32_t>(value) << 16;
  float wide;
  __builtin_memcpy(&wide, &bits, sizeof wide);
  return wide;
}

// What is asked of memory ahead of its use: in a row, and at its end in the rows of the next pass,
// which the processor cannot guess. More would push out of the first cache what is to be used next,
// because rows often lie at the same distance from multiples of a page. Within a row the distance
// is a constant, so that it takes no register.
constexpr int64_t LINE_BYTES = 64;

template <typename W, int R>
constexpr int64_t AHEAD = (sizeof(W) == sizeof(float) ? 6144 : 4096) / (R * sizeof(W));

template <typename W>
inline void ask(const W* from) {
  for (int64_t byte = 0; byte < static_cast<int64_t>(2 * LANES * sizeof(W)); byte += LINE_BYTES)
    __builtin_prefetch(reinterpret_cast<const char*>(from) + byte);
}

// Asks ahead within rows, or for what lies as far from the rows of the next pass.
template <typename W, int R, bool WITHIN>
inline void add_range(float* __restrict sums, const W* const* row, const W* const* next,
                      const float* values, int64_t begin, int64_t end) {
  for (int64_t j = begin; j < end; j += 2 * LANES) {
    Floats low = load(sums + j), high = load(sums + j + LANES);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      ask(WITHIN ? row[r] + j + AHEAD<W, R> : next[r] + j);
      const Two weights = load_two(row[r] + j);
      low += weights.low * values[r];
      high += weights.high * values[r];
    }
    store(sums + j, low);
    store(sums + j + LANES, high);
  }
}

// Each pass reads and writes the sums once for R channels: with one channel a pass, that traffic
// and not the weights sets the pace. There are `more` channels after these.
template <typename W, int R>
inline void add_channels(float* __restrict sums, const W* __restrict weight, int64_t stride,
                         const int32_t* channels, const float* values, int64_t more,
                         int64_t width) {
  const int64_t blocks = width - width % (2 * LANES);
  const int64_t near = blocks > AHEAD<W, R> ? blocks - AHEAD<W, R> : 0;
  const W *row[R], *next[R];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    row[r] = weight + channels[r] * stride;
    next[r] = weight + channels[r < more ? R + r : r] * stride - near;
  }
  add_range<W, R, true>(sums, row, next, values, 0, near);
  add_range<W, R, false>(sums, row, next, values, near, blocks);
  for (int64_t j = blocks; j < width; ++j) {
    float sum = sums[j];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) sum += widen(row[r][j]) * values[r];
    sums[j] = sum;
  }
}

// Halves have to be taken apart, which leaves room for fewer channels a pass.
template <typename W>
void add(float* sums, const W* weight, int64_t stride, const int32_t* channels,
         const float* values, int64_t count, int64_t more, int64_t width) {
  constexpr int R = sizeof(W) == sizeof(float) ? PASS : PASS / 2;
  const int64_t all = count + more;
  int64_t k = 0;
  for (; k + R <= count; k += R)
    add_channels<W, R>(sums, weight, stride, channels + k, values + k, all - k - R, width);
  if (R > 4 && k + 4 <= count) {
    add_channels<W, 4>(sums, weight, stride, channels + k, values + k, all - k - 4, width);
    k += 4;
  }
  for (; k < count; ++k)
    add_channels<W, 1>(sums, weight, stride, channels + k, values + k, all - k - 1, width);
}

// Rows share what is read of x. The order of each sum does not depend on R. There are `more` rows
// after these.
template <typename W, int R>
inline void dot_rows(float* y, const W* weight, const int32_t* rows, const float* x, int64_t n,
                     int64_t more) {
  const int64_t blocks = n - n % (2 * LANES);
  const int64_t near = blocks > AHEAD<W, R> ? blocks - AHEAD<W, R> : 0;
  const W *row[R], *next[R];
  Floats low[R], high[R];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    row[r] = weight + rows[r] * n;
    next[r] = weight + rows[r < more ? R + r : r] * n - near;
    low[r] = high[r] = Floats{};
  }
  for (int64_t i = 0; i < blocks; i += 2 * LANES) {
    const Two factors = load_two(x + i);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      ask(i < near ? row[r] + i + AHEAD<W, R> : next[r] + i);
      const Two weights = load_two(row[r] + i);
      low[r] += weights.low * factors.low;
      high[r] += weights.high * factors.high;
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    const Floats both = low[r] + high[r];
    float sum = 0;
    for (int64_t lane = 0; lane < LANES; ++lane) sum += both[lane];
    for (int64_t rest = blocks; rest < n; ++rest) sum += widen(row[r][rest]) * x[rest];
    y[r] = sum;
  }
}

template <typename W>
void dot(float* y, const W* weight, const int32_t* rows, int64_t count, const float* x,
         int64_t n) {
  int64_t k = 0;
  for (; k + 4 <= count; k += 4)
    dot_rows<W, 4>(y + k, weight, rows + k, x, n, count - k - 4);
  for (; k < count; ++k) dot_rows<W, 1>(y + k, weight, rows + k, x, n, count - k - 1);
}

// The comparison is "not at most": a value that is not a number is kept, so that it shows.
int64_t compact(const float* x, const float* threshold, int64_t step, int64_t n,
                int32_t* channels, float* values) {
  int64_t count = 0, j = 0;
#if defined(__AVX512F__)
  __m512i ids = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  for (; j + 16 <= n; j += 16) {
    const __m512 v = _mm512_loadu_ps(x + j);
    const __m512 t = step ? _mm512_loadu_ps(threshold + j) : _mm512_set1_ps(*threshold);
    const __mmask16 active = _mm512_cmp_ps_mask(_mm512_abs_ps(v), t, _CMP_NLE_UQ);
    _mm512_storeu_si512(channels + count, _mm512_maskz_compress_epi32(active, ids));
    _mm512_storeu_ps(values + count, _mm512_maskz_compress_ps(active, v));
    count += __builtin_popcount(active);
    ids = _mm512_add_epi32(ids, _mm512_set1_epi32(16));
  }
#endif
  for (; j < n; ++j) {
    channels[count] = static_cast<int32_t>(j);
    values[count] = x[j];
    count += !(__builtin_fabsf(x[j]) <= threshold[j * step]);
  }
  return count;
}

void sum(float* __restrict to, const float* __restrict from, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] += from[i];
}

// Of numbers up to 0, to two units in the last place (the polynomial of expf in Cephes); below the
// smallest normal number 0.
inline Floats exponential(Floats x) {
  constexpr float log2_e = 1.44269504f, ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
  constexpr float least = -87.3365f;
  constexpr float rounder = 12582912;  // what is added to it has no place left for a fraction
  const Floats within = x < least ? Floats{} + least : x;
  const Floats shifted = within * log2_e + rounder, whole = shifted - rounder;
  const Floats r = within - whole * ln2_high - whole * ln2_low;
  Floats sum = r * 1.9875691500e-4f + 1.3981999507e-3f;
  sum = sum * r + 8.3334519073e-3f;
  sum = sum * r + 4.1665795894e-2f;
  sum = sum * r + 1.6666665459e-1f;
  sum = sum * r + 5.0000001201e-1f;
  sum = sum * r * r + r + 1;
  constexpr uint32_t zero_of_rounder = 0x4b400000u, bias = 127;
  const Words power = (reinterpret_cast<Words>(shifted) - zero_of_rounder + bias) << 23;
  return x < least ? Floats{} : sum * reinterpret_cast<Floats>(power);
}

double exponentials(float* values, float most, int64_t n) {
  constexpr int64_t block = 32 * LANES;
  double total = 0;
  for (int64_t start = 0; start < n; start += block) {
    const int64_t end = start + block < n ? start + block : n;
    Floats sum = {};
    for (int64_t i = start; i < end; i += LANES) {
      if (i + LANES <= n) {
        const Floats made = exponential(load(values + i) - most);
        store(values + i, made);
        sum += made;
      } else {
        Floats rest = {};
        __builtin_memcpy(&rest, values + i, (n - i) * sizeof(float));
        rest = exponential(rest - most);
        __builtin_memcpy(values + i, &rest, (n - i) * sizeof(float));
        for (int64_t j = i; j < n; ++j) total += values[j];
      }
    }
    for (int64_t lane = 0; lane < LANES; ++lane) total += sum[lane];
  }
  return total;
}

void widen_all(const Half* from, float* to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = widen(from[i]);
}

constexpr uint32_t INFINITE = 0x7f800000u, NOT_A_NUMBER = 0x7fc00000u;

// The upper half is the rounded value; what is in the lower one is undefined.
inline uint32_t rounded(uint32_t bits) {
  const uint32_t nearest = bits + 0x7fffu + (bits >> 16 & 1u);
  return (bits & 0x7fffffffu) > INFINITE ? NOT_A_NUMBER : nearest;
}

inline Words rounded(Words bits) {
  const Words nearest = bits + 0x7fffu + (bits >> 16 & 1u);
  const Words unordered = reinterpret_cast<Words>((bits & 0x7fffffffu) > INFINITE);
  return (nearest & ~unordered) | (unordered & NOT_A_NUMBER);
}

void narrow(const float* paired, Half* to, int64_t n) {
  int64_t i = 0;
  for (; i + 2 * LANES <= n; i += 2 * LANES) {
    const Words even = rounded(reinterpret_cast<Words>(load(paired + i)));
    const Words odd = rounded(reinterpret_cast<Words>(load(paired + i + LANES)));
    *reinterpret_cast<WordsAnywhere*>(to + i) = even >> 16 | (odd & 0xffff0000u);
  }
  for (; i < n; ++i) {
    uint32_t bits;
    __builtin_memcpy(&bits, paired + i, sizeof bits);
    to[i] = static_cast<Half>(rounded(bits) >> 16);
  }
}

}  // namespace

#define JOINED_AGAIN(a, b) a##b
#define JOINED(a, b) JOINED_AGAIN(a, b)

extern const Products JOINED(LMRI_SET, _products) = {
    LANES,     compact, add<float>,   add<Half>, dot<float>,
    dot<Half>, sum,     exponentials, widen_all, narrow,
};

}  // namespace lmri
