// What emitted CUDA kernels begin with: conversions and functions under the names that the printer
// of expressions spells, and reductions over the threads of a block.
#define int8_t signed char
#define uint8_t unsigned char
#define int16_t short
#define int32_t int
#define int64_t long long
#define IN __device__ __forceinline__
#define WHOLE_WARP 0xffffffff
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
typedef __half f16_t;
typedef __nv_bfloat16 bf16_t;
IN float widen(f16_t v) { return __half2float(v); }
IN float widen(bf16_t v) { return __bfloat162float(v); }
#endif
template <class T, class F> struct Narrow { static IN T of(F v) { return (T)v; } };
#ifdef NARROW_FLOATS
template <class F> struct Narrow<f16_t, F> { static IN f16_t of(F v) { return __float2half_rn(v); } };
template <class F> struct Narrow<bf16_t, F> { static IN bf16_t of(F v) { return __float2bfloat16_rn(v); } };
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
template <class T> IN T across(T v, int by) { return __shfl_xor_sync(WHOLE_WARP, v, by); }
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
