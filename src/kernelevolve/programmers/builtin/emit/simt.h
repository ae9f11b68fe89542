// What emitted kernels begin with, behind their language's own names: conversions and functions under the names that the printer
// of expressions spells, and reductions over the threads of a block.
#define int8_t signed char
#define uint8_t unsigned char
#define int16_t short
#define int32_t int
#define int64_t long long
#define IN __device__ __forceinline__
#define __builtin_sqrt sqrt
#undef __builtin_inf
#undef __builtin_nan
#define __builtin_inf() __longlong_as_double(0x7ff0000000000000ll)
#define __builtin_nan(text) __longlong_as_double(0x7ff8000000000000ll)

IN float widen(float v) { return v; }
IN double widen(double v) { return v; }
IN int64_t widen(int64_t v) { return v; }
IN int32_t widen(int32_t v) { return v; }
IN int32_t widen(int16_t v) { return v; }
IN int32_t widen(int8_t v) { return v; }
IN int32_t widen(uint8_t v) { return v; }
IN bool widen(bool v) { return v; }
#ifdef NARROW_FLOATS
IN float widen(f16_t v) { return float_of(v); }
IN float widen(bf16_t v) { return float_of(v); }
#endif
template <class T, class F> struct Narrow { static IN T of(F v) { return (T)v; } };
#ifdef NARROW_FLOATS
template <class F> struct Narrow<f16_t, F> { static IN f16_t of(F v) { return f16_of(v); } };
template <class F> struct Narrow<bf16_t, F> { static IN bf16_t of(F v) { return bf16_of(v); } };
#endif
template <class T, class F> IN T narrow(F v) { return Narrow<T, F>::of(v); }
template <class T> IN T k(double v) { return (T)v; }
template <class T> IN T sel(bool m, T a, T b) { return m ? a : b; }
template <class T> IN bool lt(T a, T b) { return a < b; }
template <class T> IN bool le(T a, T b) { return a <= b; }
template <class T> IN bool gt(T a, T b) { return a > b; }
template <class T> IN bool ge(T a, T b) { return a >= b; }
template <class T> IN bool eq(T a, T b) { return a == b; }
template <class T> IN bool ne(T a, T b) { return a != b; }
template <class T> IN T vmax(T a, T b) { return a > b || a != a ? a : b; }
template <class T> IN T vmin(T a, T b) { return a < b || a != a ? a : b; }
template <class T> IN T vhardmax(T a, T b) { return a > b ? a : b; }  // NaN only from b
template <class T> IN T vhardmin(T a, T b) { return a < b ? a : b; }
template <class T> IN T vmod(T a, T b) { return a - a / b * b; }
template <class T> IN T vabs(T v) { return v < 0 ? -v : v; }
IN float vabs(float v) { return fabsf(v); }
IN double vabs(double v) { return fabs(v); }
template <class T> IN T vsign(T v) { return v > 0 ? (T)1 : v < 0 ? (T)-1 : v - v; }
#define FUNCTION(name, single, whole)     \
  IN float name(float v) { return single; } \
  IN double name(double v) { return whole; }
#if FAST_MATH
FUNCTION(vexp, __expf(v), exp(v))
FUNCTION(vlog, __logf(v), log(v))
#else
FUNCTION(vexp, expf(v), exp(v))
FUNCTION(vlog, logf(v), log(v))
#endif
FUNCTION(vexp2, exp2f(v), exp2(v))
FUNCTION(vexpm1, expm1f(v), expm1(v))
FUNCTION(vlog2, log2f(v), log2(v))
FUNCTION(vlog1p, log1pf(v), log1p(v))
FUNCTION(vsqrt, sqrtf(v), sqrt(v))
FUNCTION(vtanh, tanhf(v), tanh(v))
FUNCTION(vsigmoid, 1.0f / (1.0f + vexp(-v)), 1.0 / (1.0 + vexp(-v)))
FUNCTION(verf, erff(v), erf(v))
FUNCTION(verf1p, erfcf(-v), erfc(-v))
FUNCTION(vsin, sinf(v), sin(v))
FUNCTION(vcos, cosf(v), cos(v))
FUNCTION(vfloor, floorf(v), floor(v))
FUNCTION(vceil, ceilf(v), ceil(v))
FUNCTION(vround, rintf(v), rint(v))
FUNCTION(vtrunc, truncf(v), trunc(v))
template <class T> IN T vpow(T x, T y) { return (T)pow((double)x, (double)y); }
IN float vpow(float x, float y) { return powf(x, y); }

// Division of sizes: by 32-bit numbers where both fit, which is several times as fast.
template <class I> struct Same { typedef I type; };
template <class I> IN I quotient(I x, typename Same<I>::type n) {
  if constexpr (sizeof(I) > 4)
    if ((x | n) >> 32) return x / n;
  return (I)((unsigned)x / (unsigned)n);
}

// How many of n ascending elements a value goes past, by the probes that torch makes.
template <bool RIGHT, class T> IN bool past(T border, T v) { return RIGHT ? !(border > v) : !(border >= v); }
template <bool RIGHT, class N, class T, class S> IN N find_below(const T *p, int64_t stride, N low, N n, S v) {
  while (n > 0) {
    const N half = n >> 1;
    const bool go = past<RIGHT>(widen(p[(low + half) * stride]), v);
    low = go ? low + half + 1 : low;
    n = (n - go) >> 1;
  }
  return low;
}
template <bool RIGHT, class T, class S> IN int64_t find(const T *p, int64_t stride, int64_t n, S v) {
  return n >> 31 ? find_below<RIGHT, int64_t>(p, stride, 0, n, v) : find_below<RIGHT, int>(p, stride, 0, (int)n, v);
}

// The first LEVELS probes of a search may meet so many elements; node n is followed by 2n or 2n + 1.
template <int LEVELS, class T, class E> IN void plant(E *tree, const T *p, int64_t stride, int64_t n) {
  const int64_t whole = 1 << LEVELS, most = n < whole / 2 ? 2 * n : whole;
  for (int node = threadIdx.x + 1; node < most; node += blockDim.x) {
    int64_t low = 0, left = n;
    for (int level = 30 - __clz(node); level >= 0; level--) {
      const int go = node >> level & 1;
      low += go ? (left >> 1) + 1 : 0;
      left = (left - go) >> 1;
    }
    if (left > 0) tree[node] = widen(p[(low + (left >> 1)) * stride]);
  }
}
template <bool RIGHT, int LEVELS, class N, class T, class S> IN N find_down(const S *tree, const T *p, int64_t stride, N n, S v) {
  N low = 0;
  for (int node = 1; n > 0 && node < 1 << LEVELS;) {
    const bool go = past<RIGHT>(tree[node], v);
    low += go ? (n >> 1) + 1 : 0;
    n = (n - go) >> 1;
    node = node * 2 + go;
  }
  return find_below<RIGHT, N>(p, stride, low, n, v);
}
template <bool RIGHT, int LEVELS, class T, class S> IN int64_t find_planted(const S *tree, const T *p, int64_t stride, int64_t n, S v) {
  return n >> 31 ? find_down<RIGHT, LEVELS, int64_t>(tree, p, stride, n, v) : find_down<RIGHT, LEVELS, int>(tree, p, stride, (int)n, v);
}

// Tiles of running sums, each for a block, in the order in which blocks start. After the number of
// the next tile, state has for each tile how much is known (1: its sum, 2: all up to it), both sums.
IN int64_t next_tile(int64_t *state, int64_t *room) {
  if (threadIdx.x == 0) *room = (int64_t)atomicAdd((unsigned long long *)state, 1ull);
  __syncthreads();
  return *room;
}
template <class T> IN T along_warp(T v) {
  for (int by = 1; by < 32; by *= 2) {
    const T below = lane_below(v, by);
    v += threadIdx.x % 32 >= by ? below : 0;
  }
  return v;
}
IN void tell(volatile int64_t *known, volatile int64_t *sum, int64_t tile, int64_t value, int much) {
  if (threadIdx.x) return;
  sum[tile] = value;
  __threadfence();
  known[tile] = much;
}
IN int64_t look_back(volatile int64_t *known, int64_t tile, int64_t tiles) {  // by the first warp
  int64_t sum = 0;
  for (int64_t at = tile - 1 - (int)threadIdx.x;; at -= 32) {
    int64_t much = 2, value = 0;
    if (at >= 0) {
      while ((much = known[at]) == 0) {}
      __threadfence();
      value = known[much * tiles + at];
    }
    const unsigned ends = lanes_where(much == 2);
    if (ends && (int)threadIdx.x > __ffs(ends) - 1) value = 0;
    for (int by = 16; by; by >>= 1) value += lane_across(value, by);
    sum += value;
    if (ends) return sum;
  }
}
// What comes before a warp's part of a tile; total is the warp's own sum.
template <int THREADS, class T> IN T sum_before(T total, int64_t tile, bool first, T *room, int64_t *state, int64_t tiles) {
  if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = total;
  __syncthreads();
  T below = 0, all = 0;
  for (int warp = 0; warp < THREADS / 32; warp++) {
    below += warp < threadIdx.x / 32 ? room[warp] : 0;
    all += room[warp];
  }
  __syncthreads();
  if (threadIdx.x < 32) {
    int64_t *known = state + 1, sum = 0;
    if (!first) {
      tell(known, known + tiles, tile, all, 1);
      sum = look_back(known, tile, tiles);
    }
    tell(known, known + 2 * tiles, tile, sum + all, 2);
    if (threadIdx.x == 0) room[0] = (T)sum;
  }
  __syncthreads();
  return room[0] + below;
}

struct Plus { template <class T> static IN T of(T a, T b) { return a + b; } };
struct Times { template <class T> static IN T of(T a, T b) { return a * b; } };
struct Most { template <class T> static IN T of(T a, T b) { return vmax(a, b); } };
struct Least { template <class T> static IN T of(T a, T b) { return vmin(a, b); } };
template <class T> struct Best { T value, unused; int64_t at; };  // no bytes between
template <class T> IN Best<T> best(T value, int64_t at) { return {value, value, at}; }
template <bool LARGEST> struct First {  // NaN before all; of equals, the one that comes first
  template <class T> static IN Best<T> of(Best<T> a, Best<T> b) {
    bool na = a.value != a.value, nb = b.value != b.value;
    bool better = na != nb ? nb : !na && (LARGEST ? b.value > a.value : b.value < a.value);
    bool same = na && nb || a.value == b.value;
    return better || (same && b.at < a.at) ? b : a;
  }
};
template <class T> IN T across(T v, int by) { return lane_across(v, by); }
template <class T> IN Best<T> across(Best<T> v, int by) {
  return best(across(v.value, by), across(v.at, by));
}
// Over the THREADS of threadIdx.x, a multiple of 32; every one gets the result.
template <int THREADS, class Op, class T> IN T fold_row(T v, T *room) {
  for (int by = 16; by; by >>= 1) v = Op::of(v, across(v, by));
  if (THREADS == 32) return v;
  if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = v;
  __syncthreads();
  v = room[0];
  for (int warp = 1; warp < THREADS / 32; warp++) v = Op::of(v, room[warp]);
  return v;
}
// Over the PARTS of threadIdx.y, for each of 32 columns; every one gets the result.
template <int PARTS, class Op, class T> IN T fold_column(T v, T *room) {
  if (PARTS == 1) return v;
  room[threadIdx.y * 32 + threadIdx.x] = v;
  __syncthreads();
  v = room[threadIdx.x];
  for (int part = 1; part < PARTS; part++) v = Op::of(v, room[part * 32 + threadIdx.x]);
  return v;
}
