// Inner loops of recording: what turns activity into a few numbers, one value read once.
//
// Compiled once for each instruction set of a processor: LMRI_SET names it, LMRI_BYTES is the size
// of its vector registers. Nothing of the standard library is included: code of the wrong set could
// be left in a function that the linker shares (intrinsics are always inlined). Called by
// lmri/record/reductions.py, which sees to it that shapes and lengths are right. Every number is the
// work of one thread, in a fixed order: its bits do not depend on how many there are.
#include <stdint.h>
#include <stdlib.h>
#if LMRI_BYTES >= 32
#include <immintrin.h>
#endif

#define JOINED_AGAIN(a, b) a##b
#define JOINED(a, b) JOINED_AGAIN(a, b)
#define EXPORTED(name) \
  extern "C" __attribute__((visibility("default"))) int32_t JOINED(LMRI_SET, name)

namespace {

constexpr int64_t LANES = LMRI_BYTES / 4;
typedef float Floats __attribute__((vector_size(LMRI_BYTES)));
typedef int32_t Integers __attribute__((vector_size(LMRI_BYTES)));
typedef uint32_t Words __attribute__((vector_size(LMRI_BYTES)));
typedef float FloatsAnywhere __attribute__((vector_size(LMRI_BYTES), aligned(4), may_alias));
typedef double Doubles __attribute__((vector_size(LMRI_BYTES)));
typedef float Half __attribute__((vector_size(LMRI_BYTES / 2)));
typedef float HalfAnywhere __attribute__((vector_size(LMRI_BYTES / 2), aligned(4), may_alias));

// Registers that hold sums: processors with wide ones have twice as many of them.
constexpr int BLOCK = LMRI_BYTES == 64 ? 4 : 2;

// Added up in single precision before they go to a double.
constexpr int64_t RUN = 32 * LANES;

// Memory runs out: what was to be written is not.
constexpr int32_t DONE = 0, NO_MEMORY = 1;

inline Floats load(const float* from) { return *reinterpret_cast<const FloatsAnywhere*>(from); }

inline void store(float* to, Floats values) { *reinterpret_cast<FloatsAnywhere*>(to) = values; }

inline void store(float* to, Half values) { *reinterpret_cast<HalfAnywhere*>(to) = values; }

inline Half load_half(const float* from) { return *reinterpret_cast<const HalfAnywhere*>(from); }

inline Doubles load_wide(const float* from) {
  return __builtin_convertvector(load_half(from), Doubles);
}

// In pairs, pairs of pairs and so on: additions of a level do not wait for one another.
inline double total(Doubles values) {
#pragma GCC unroll 4
  for (int64_t width = LANES / 4; width; width /= 2)
    for (int64_t lane = 0; lane < width; ++lane) values[lane] += values[lane + width];
  return values[0];
}

inline double total(Floats values) {
  double sum = 0;
  for (int64_t lane = 0; lane < LANES; ++lane) sum += values[lane];
  return sum;
}

// ---------------------------------------------------------------------------------------- pooling

constexpr float NOT_A_NUMBER = __builtin_nanf("");

// Where the statistics of some features of one row and phase go; their order is that of
// STATISTICS in pooling.py.
struct Pools {
  float* out;
  int64_t stride;
  int64_t count;
  const float* last;  // values of the last token, or none

  // Returns whether all sums are finite.
  bool put(int64_t feature, double sum, double squares) const {
    const float rounded = static_cast<float>(sum);
    out[feature] = count ? rounded / static_cast<float>(count) : NOT_A_NUMBER;
    out[stride + feature] = count ? last[feature] : NOT_A_NUMBER;
    out[2 * stride + feature] = rounded;
    out[3 * stride + feature] = static_cast<float>(squares);
    out[4 * stride + feature] = static_cast<float>(count);
    return rounded - rounded == 0;
  }

  // The same of as many features as there are sums; of each, what is not 0 where it is not finite.
  Half put(int64_t feature, Doubles sums, Doubles squares) const {
    const Half rounded = __builtin_convertvector(sums, Half), none = Half{} + NOT_A_NUMBER;
    const Half tokens = Half{} + static_cast<float>(count);
    store(out + feature, count ? rounded / tokens : none);
    store(out + stride + feature, count ? load_half(last + feature) : none);
    store(out + 2 * stride + feature, rounded);
    store(out + 3 * stride + feature, __builtin_convertvector(squares, Half));
    store(out + 4 * stride + feature, tokens);
    return rounded - rounded;
  }
};

// N half registers of features from `feature` on. Returns whether all sums are finite.
template <int N>
inline bool pool_features(const float* row, int64_t stride, const int32_t* tokens,
                          const Pools& pools, int64_t feature) {
  constexpr int64_t half = LANES / 2;
  Doubles sums[N] = {}, squares[N] = {};
  for (int64_t i = 0; i < pools.count; ++i) {
    const float* values = row + tokens[i] * stride + feature;
#pragma GCC unroll 8
    for (int k = 0; k < N; ++k) {
      const Doubles wide = load_wide(values + k * half);
      sums[k] += wide;
      squares[k] += wide * wide;
    }
  }
  Half found = {};
  for (int k = 0; k < N; ++k) found += pools.put(feature + k * half, sums[k], squares[k]);
  float sum = 0;
  for (int64_t lane = 0; lane < half; ++lane) sum += found[lane];
  return sum == 0;
}

// Returns whether all sums are finite.
bool pool_row(const float* row, int64_t stride, int64_t features, const int32_t* tokens,
              const Pools& pools) {
  constexpr int64_t half = LANES / 2;
  bool finite = true;
  int64_t feature = 0;
  for (; feature + 2 * BLOCK * half <= features; feature += 2 * BLOCK * half)
    finite &= pool_features<2 * BLOCK>(row, stride, tokens, pools, feature);
  for (; feature + half <= features; feature += half)
    finite &= pool_features<1>(row, stride, tokens, pools, feature);
  for (; feature < features; ++feature) {
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < pools.count; ++i) {
      const double value = row[tokens[i] * stride + feature];
      sum += value;
      squares += value * value;
    }
    finite &= pools.put(feature, sum, squares);
  }
  return finite;
}

// --------------------------------------------------------------------------------------- narrowing

// Bits of numbers in half precision, as many as a register holds in single precision.
typedef int16_t Halves __attribute__((vector_size(LMRI_BYTES / 2)));
typedef int16_t HalvesAnywhere
    __attribute__((vector_size(LMRI_BYTES / 2), aligned(2), may_alias));

constexpr int16_t SIGN_OF_HALF = INT16_MIN, INFINITE_HALF = 0x7c00;

// Rounded to the nearest, ties to even.
inline Halves narrowed(Floats values) {
#if LMRI_BYTES == 64
  return reinterpret_cast<Halves>(_mm512_cvtps_ph(reinterpret_cast<__m512>(values),
                                                  _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#elif LMRI_BYTES == 32
  return reinterpret_cast<Halves>(
      _mm256_cvtps_ph(reinterpret_cast<__m256>(values), _MM_FROUND_TO_NEAREST_INT));
#else
  constexpr uint32_t least_normal = 0x38800000u, infinite = 0x7f800000u, half = 0x3f000000u;
  const Words bits = reinterpret_cast<Words>(values), size = bits & 0x7fffffffu;
  // The exponent counts from 15, not from 127; a carry into it gives the next power of two.
  const Words normal = ((size + 0xfffu + (size >> 13 & 1u)) >> 13) - ((127u - 15u) << 10);
  // Subnormal ones are multiples of 2^-24, as the numbers from 1/2 to 1 are: adding 1/2 rounds.
  const Words subnormal = reinterpret_cast<Words>(reinterpret_cast<Floats>(size) + 0.5f) - half;
  Words made = size < least_normal ? subnormal : normal;
  made = size >= 0x47800000u ? Words{} + INFINITE_HALF : made;  // from 2^16 on
  made = size > infinite ? Words{} + 0x7e00u : made;
  return __builtin_convertvector(made | (bits >> 16 & 0x8000u), Halves);
#endif
}

// Narrow n values. What is largest without its sign goes to `most`, lane by lane.
inline void narrow_run(const float* values, int64_t n, int16_t* out, Halves& most) {
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES) {
    const Halves made = narrowed(load(values + i)), size = made & ~SIGN_OF_HALF;
    *reinterpret_cast<HalvesAnywhere*>(out + i) = made;
    most = size > most ? size : most;
  }
  if (i == n) return;
  Floats rest = {};
  for (int64_t lane = 0; lane < n - i; ++lane) rest[lane] = values[i + lane];
  const Halves made = narrowed(rest), size = made & ~SIGN_OF_HALF;
  for (int64_t lane = 0; lane < n - i; ++lane) out[i + lane] = made[lane];
  most = size > most ? size : most;
}

// ----------------------------------------------------------------------------------- exponentials

// Below it, the exponential is less than the smallest normal number and taken for 0.
constexpr float LEAST = -87.3365f;

inline Floats at_least(Floats x) { return x < LEAST ? Floats{} + LEAST : x; }

// Of numbers up to 0, to two units in the last place (the polynomial of expf in Cephes).
inline Floats exponential(Floats x) {
  constexpr float log2_e = 1.44269504f, ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
  constexpr float rounder = 12582912;  // what is added to it has no place left for a fraction
  const Floats within = at_least(x);
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
  return x < LEAST ? Floats{} : sum * reinterpret_cast<Floats>(power);
}

inline float exponential(float x) { return exponential(Floats{} + x)[0]; }

inline float largest(const float* values, int64_t n) {
  Floats most = Floats{} + values[0];
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES) {
    const Floats own = load(values + i);
    most = own > most ? own : most;
  }
  float found = most[0];
  for (int64_t lane = 1; lane < LANES; ++lane) found = most[lane] > found ? most[lane] : found;
  for (; i < n; ++i) found = values[i] > found ? values[i] : found;
  return found;
}

// Σ exp z and Σ z exp z with z = value - most.
struct Weighed {
  double weight = 0, product = 0;
};

// Values become exp z where they are KEPT. Whole registers only.
template <bool KEPT>
inline void weigh(float* values, float most, int64_t n, Weighed& found) {
  for (int64_t start = 0; start < n; start += RUN) {
    const int64_t end = start + RUN < n ? start + RUN : n;
    Floats weights = {}, products = {};
    for (int64_t i = start; i < end; i += LANES) {
      const Floats z = load(values + i) - most, made = exponential(z);
      if (KEPT) store(values + i, made);
      weights += made;
      products += made * at_least(z);
    }
    found.weight += total(weights);
    found.product += total(products);
  }
}

// -------------------------------------------------------------------------------------- attention

// Score of a key that is hidden: its weight is 0, and 0 times it is not NaN.
constexpr float HIDDEN = -1e30f;

// Queries whose scores are computed together.
constexpr int QUERIES = 4;

// In the order of ATTENTION_SUMMARIES.
enum Summary { ENTROPY, ENTROPY_REST, SINK, PREVIOUS, DUPLICATE, INDUCTION, RETRIEVAL, SUMMARIES };

struct Attention {
  const float* query;  // (batch, heads, queries, size), values of a query one after another
  const float* key;    // (batch, key_heads, keys, size)
  int64_t query_strides[3], key_strides[3];
  int64_t batch, heads, key_heads, queries, keys, size;
  float scaling;
  const int64_t* ids;       // (batch, keys), negative where padded
  const uint8_t* content;   // (batch, keys)
  const int32_t* earlier;   // (batch, keys): position of the same token before, or -1
  float* out;               // (batch, queries, SUMMARIES, heads)
};

// Keys of one head with the values of one channel after another, up to whole blocks of registers.
void turn(const Attention& a, const float* key, int64_t width, float* turned) {
  for (int64_t i = 0; i < a.size; ++i)
    for (int64_t k = 0; k < width; ++k)
      turned[i * width + k] = k < a.keys ? key[k * a.key_strides[2] + i] : 0;
}

// Scores of QUERIES queries with the keys 0..n, in whole blocks; queries that are missing are zeros.
inline void score(const Attention& a, const float* const* query, const float* turned, int64_t width,
                  int64_t n, float* scores) {
  for (int64_t k = 0; k < n; k += BLOCK * LANES) {
    Floats sums[QUERIES][BLOCK] = {};
    for (int64_t i = 0; i < a.size; ++i) {
      const float* channel = turned + i * width + k;
#pragma GCC unroll 4
      for (int c = 0; c < BLOCK; ++c) {
        const Floats values = load(channel + c * LANES);
#pragma GCC unroll 4
        for (int q = 0; q < QUERIES; ++q) sums[q][c] += values * query[q][i];
      }
    }
    for (int q = 0; q < QUERIES; ++q)
      for (int c = 0; c < BLOCK; ++c)
        store(scores + q * width + k + c * LANES, sums[q][c] * a.scaling);
  }
}

// What the weights of one query say, from its scores with all keys up to its own position.
inline void summarise(const Attention& a, int64_t row, int64_t position, float* scores, float* out) {
  const int64_t n = position + 1, whole = (n + LANES - 1) / LANES * LANES;
  const float most = largest(scores, n);
  for (int64_t k = n; k < whole; ++k) scores[k] = HIDDEN;
  const float first = scores[0] - most, weight_of_first = exponential(first);
  // Summed without the first token, not less its part: where it takes nearly all, the small rest
  // divided below would carry the rounding of the whole.
  scores[0] = HIDDEN;
  Weighed rest;
  weigh<true>(scores, most, whole, rest);
  const float* weights = scores;
  scores[0] = weight_of_first;
  const double all = weight_of_first + rest.weight, log_all = __builtin_log(all);
  const double of_first = first < LEAST ? 0 : weight_of_first * static_cast<double>(first);
  // -Σ a log a with log a = z - log Σ exp z
  const double entropy = log_all - (rest.product + of_first) / all;
  // The same of the weights divided by their sum, that is of the rest alone.
  const double spread = rest.weight > 1e-6 * all
                            ? __builtin_log(rest.weight) - rest.product / rest.weight
                            : rest.weight != rest.weight ? rest.weight : 0;
  const int64_t* ids = a.ids + row * a.keys;
  const int32_t* earlier = a.earlier + row * a.keys;
  double duplicate = 0, induction = 0;
  for (int64_t k = earlier[position]; k >= 0; k = earlier[k]) {
    duplicate += weights[k];
    induction += weights[k + 1];
  }
  bool copies = false;
  if (n < a.keys && ids[n] >= 0 && earlier[n] >= 0) {
    const float heaviest = largest(weights, n);
    int64_t best = 0;
    while (best < position && !(weights[best] == heaviest)) ++best;
    copies = ids[best] == ids[n] && a.content[row * a.keys + best];
  }
  out[ENTROPY * a.heads] = entropy < 0 ? 0 : entropy;
  out[ENTROPY_REST * a.heads] = spread < 0 ? 0 : spread;
  out[SINK * a.heads] = weight_of_first / all;
  out[PREVIOUS * a.heads] = position ? weights[position - 1] / all : 0;
  out[DUPLICATE * a.heads] = duplicate / all;
  out[INDUCTION * a.heads] = induction / all;
  out[RETRIEVAL * a.heads] = copies;
}

// All queries of the heads that share the keys of one head of one row.
void summarise_head(const Attention& a, int64_t row, int64_t key_head, float* room, int64_t width) {
  float* turned = room;
  float* scores = turned + a.size * width;
  float* zeros = scores + QUERIES * width;
  const int64_t shared = a.heads / a.key_heads, past = a.keys - a.queries;
  turn(a, a.key + row * a.key_strides[0] + key_head * a.key_strides[1], width, turned);
  for (int64_t i = 0; i < a.size; ++i) zeros[i] = 0;
  for (int64_t head = key_head * shared; head < (key_head + 1) * shared; ++head) {
    const float* queries = a.query + row * a.query_strides[0] + head * a.query_strides[1];
    for (int64_t start = 0; start < a.queries; start += QUERIES) {
      const int64_t end = start + QUERIES < a.queries ? start + QUERIES : a.queries;
      const float* own[QUERIES];
      for (int64_t q = 0; q < QUERIES; ++q)
        own[q] = start + q < end ? queries + (start + q) * a.query_strides[2] : zeros;
      score(a, own, turned, width, past + end, scores);
      for (int64_t q = start; q < end; ++q) {
        float* out = a.out + (row * a.queries + q) * SUMMARIES * a.heads + head;
        if (a.ids[row * a.keys + past + q] >= 0)
          summarise(a, row, past + q, scores + (q - start) * width, out);
        else
          for (int64_t s = 0; s < SUMMARIES; ++s) out[s * a.heads] = 0;
      }
    }
  }
}

}  // namespace

// Norms of rows of `size` values, in order of batch, tokens and heads, with the strides of these.
EXPORTED(_norms)(const float* values, const int64_t* strides, int64_t batch, int64_t tokens,
                 int64_t heads, int64_t size, float* out, int32_t threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t row = 0; row < batch * tokens; ++row)
    for (int64_t head = 0; head < heads; ++head) {
      const float* own = values + row / tokens * strides[0] + row % tokens * strides[1] +
                         head * strides[2];
      constexpr int64_t half = LANES / 2;
      Doubles squares = {};
      int64_t i = 0;
      for (; i + half <= size; i += half) {
        const Doubles wide = load_wide(own + i);
        squares += wide * wide;
      }
      double sum = total(squares);
      for (; i < size; ++i) sum += static_cast<double>(own[i]) * own[i];
      out[row * heads + head] = static_cast<float>(__builtin_sqrt(sum));
    }
  return DONE;
}

// Pool values (batch, tokens, features) over the tokens of each phase of each row. Phase p of row b
// has the tokens from starts[b * phases + p] of the list on. The statistics go to
// out[b * strides[0] + p * strides[1] + s * strides[2] + feature]; *finite tells whether all sums are.
EXPORTED(_pool)(const float* values, int64_t row_stride, int64_t token_stride, int64_t batch,
                int64_t phases, int64_t features, const int64_t* starts, const int32_t* tokens,
                float* out, const int64_t* strides, int32_t* finite, int32_t threads) {
  int32_t all = 1;
#pragma omp parallel for schedule(static) num_threads(threads) reduction(& : all)
  for (int64_t b = 0; b < batch; ++b) {
    const float* row = values + b * row_stride;
    for (int64_t p = 0; p < phases; ++p) {
      const int64_t start = starts[b * phases + p], count = starts[b * phases + p + 1] - start;
      const int32_t* own = tokens + start;
      const Pools pools = {out + b * strides[0] + p * strides[1], strides[2], count,
                           count ? row + own[count - 1] * token_stride : nullptr};
      all &= pool_row(row, token_stride, features, own, pools);
    }
  }
  *finite = all;
  return DONE;
}

// Narrow values (batch, tokens, features) to half precision. Row b has the tokens before lengths[b]
// of its own, and they go to the rows of `out` from starts[b] on; *finite tells whether all results
// are.
EXPORTED(_narrow)(const float* values, int64_t row_stride, int64_t token_stride, int64_t batch,
                  int64_t tokens, int64_t features, const int64_t* starts, const int64_t* lengths,
                  int16_t* out, int64_t out_stride, int32_t* finite, int32_t threads) {
  int32_t all = 1;
#pragma omp parallel num_threads(threads) reduction(& : all)
  {
    Halves most = {};
#pragma omp for schedule(static)
    for (int64_t token = 0; token < batch * tokens; ++token) {
      const int64_t row = token / tokens, position = token % tokens;
      if (position < lengths[row])
        narrow_run(values + row * row_stride + position * token_stride, features,
                   out + (starts[row] + position) * out_stride, most);
    }
    for (int64_t lane = 0; lane < LANES; ++lane) all &= most[lane] < INFINITE_HALF;
  }
  *finite = all;
  return DONE;
}

// Summaries of causal attention; sizes are batch, heads, key_heads, queries, keys, size, and
// strides three of the queries and three of the keys. The last queries are those of the last keys.
EXPORTED(_attention)(const float* query, const float* key, const int64_t* strides,
                     const int64_t* sizes, float scaling, const int64_t* ids,
                     const uint8_t* content, const int32_t* earlier, float* out, int32_t threads) {
  const Attention a = {query,    key,      {strides[0], strides[1], strides[2]},
                       {strides[3], strides[4], strides[5]},
                       sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5],
                       scaling,  ids,      content,  earlier,  out};
  const int64_t block = BLOCK * LANES, width = (a.keys + block - 1) / block * block;
  const int64_t room = a.size * width + QUERIES * width + a.size;
  int32_t result = DONE;
#pragma omp parallel num_threads(threads)
  {
    float* own = static_cast<float*>(malloc(room * sizeof(float)));
#pragma omp for schedule(static)
    for (int64_t task = 0; task < a.batch * a.key_heads; ++task) {
      if (own)
        summarise_head(a, task / a.key_heads, task % a.key_heads, own, width);
      else
#pragma omp atomic write
        result = NO_MEMORY;
    }
    free(own);
  }
  return result;
}

// Log-probability of the word that follows each row of logits, and entropy of the next.
EXPORTED(_next_token)(const float* logits, int64_t rows, int64_t words, int64_t stride,
                      const int64_t* following, float* log_probability, float* entropy,
                      int32_t threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t row = 0; row < rows; ++row) {
    float* own = const_cast<float*>(logits) + row * stride;  // read, as it is not kept
    const float most = largest(own, words);
    Weighed all;
    const int64_t whole = words / LANES * LANES;
    weigh<false>(own, most, whole, all);
    float rest[LANES];
    for (int64_t i = 0; i < LANES; ++i) rest[i] = whole + i < words ? own[whole + i] : HIDDEN;
    weigh<false>(rest, most, LANES, all);
    const double log_all = __builtin_log(all.weight);
    const double spread = log_all - all.product / all.weight;
    log_probability[row] = static_cast<float>(own[following[row]] - most - log_all);
    entropy[row] = static_cast<float>(spread < 0 ? 0 : spread);
  }
  return DONE;
}
