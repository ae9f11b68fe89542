// Vectors of W lanes for every type, with partial (n-lane) loads and stores for tails.
#define IN inline __attribute__((always_inline))
typedef decltype(sizeof 0) usize;
typedef __INT8_TYPE__ int8_t; typedef __INT16_TYPE__ int16_t; typedef __INT32_TYPE__ int32_t;
typedef __INT64_TYPE__ int64_t; typedef __UINT8_TYPE__ uint8_t; typedef __UINT16_TYPE__ uint16_t;
typedef __UINT32_TYPE__ uint32_t; typedef __UINT64_TYPE__ uint64_t;
struct bf16_t { uint16_t raw; };
typedef _Float16 f16_t;
template <class T, int N = W> struct Lanes {
  typedef T type __attribute__((vector_size(N * sizeof(T))));
  typedef T loose __attribute__((vector_size(N * sizeof(T)), aligned(sizeof(T)), may_alias));
};
typedef Lanes<float>::type vf32; typedef Lanes<double>::type vf64;
typedef Lanes<int32_t>::type vi32; typedef Lanes<int64_t>::type vi64;
template <class V> struct Traits;
template <> struct Traits<vf32> { typedef float scalar; typedef vi32 bits; };
template <> struct Traits<vf64> { typedef double scalar; typedef vi64 bits; };
template <> struct Traits<vi32> { typedef int32_t scalar; typedef vi32 bits; };
template <> struct Traits<vi64> { typedef int64_t scalar; typedef vi64 bits; };
template <> struct Traits<float> { typedef float scalar; typedef int32_t bits; };
template <> struct Traits<double> { typedef double scalar; typedef int64_t bits; };
template <> struct Traits<int32_t> { typedef int32_t scalar; typedef int32_t bits; };
template <> struct Traits<int64_t> { typedef int64_t scalar; typedef int64_t bits; };
template <class To, class From> IN To as(From v) { return __builtin_bit_cast(To, v); }
template <class V> IN V splat(typename Traits<V>::scalar s) { return s - V{}; }
template <> IN vf32 splat<vf32>(float s) { vf32 v; for (int i = 0; i < W; i++) v[i] = s; return v; }
template <> IN vf64 splat<vf64>(double s) { vf64 v; for (int i = 0; i < W; i++) v[i] = s; return v; }
template <> IN float splat<float>(float s) { return s; }
template <> IN double splat<double>(double s) { return s; }
IN vi32 mask(bool b) { return splat<vi32>(b ? -1 : 0); }

// Scalar memory type -> arithmetic type.
IN float widen(float v) { return v; } IN double widen(double v) { return v; }
IN int64_t widen(int64_t v) { return v; } IN int32_t widen(int32_t v) { return v; }
IN int32_t widen(int16_t v) { return v; } IN int32_t widen(int8_t v) { return v; }
IN int32_t widen(uint8_t v) { return v; } IN bool widen(bool v) { return v; }
IN float widen(f16_t v) { return (float)v; }
IN float widen(bf16_t v) { return as<float>((uint32_t)v.raw << 16); }
template <class T, class F> IN T narrow(F v) { return (T)v; }
template <> IN bf16_t narrow<bf16_t, float>(float v) {
  uint32_t u = as<uint32_t>(v);
  if (v != v) return bf16_t{(uint16_t)0x7fc0};
  return bf16_t{(uint16_t)((u + 0x7fff + ((u >> 16) & 1)) >> 16)};
}

// Vector memory type -> arithmetic type.
template <class T> IN typename Lanes<T>::type raw(const T* p) { return *(const typename Lanes<T>::loose*)p; }
IN vf32 widen(vf32 v) { return v; } IN vf64 widen(vf64 v) { return v; }
IN vi32 widen(vi32 v) { return v; } IN vi64 widen(vi64 v) { return v; }
IN vi32 widen(Lanes<int16_t>::type v) { return __builtin_convertvector(v, vi32); }
IN vi32 widen(Lanes<int8_t>::type v) { return __builtin_convertvector(v, vi32); }
IN vi32 widen(Lanes<uint8_t>::type v) { return __builtin_convertvector(v, vi32); }
IN vf32 widen(Lanes<f16_t>::type v) { return __builtin_convertvector(v, vf32); }
IN vf32 widen(Lanes<uint16_t>::type v) {
  return as<vf32>(__builtin_convertvector(v, Lanes<uint32_t>::type) << 16);
}
template <class T> IN auto ld(const T* p) { return widen(raw(p)); }
template <> IN auto ld(const bf16_t* p) { return widen(raw((const uint16_t*)p)); }
template <> IN auto ld(const bool* p) { return (vi32)(widen(raw((const uint8_t*)p)) != 0); }
template <class T> IN auto ld(const T* p, int64_t n) {
  T lanes[W] = {};
  for (int64_t i = 0; i < n; i++) lanes[i] = p[i];
  return ld(lanes);
}
template <class T> IN void st(T* p, typename Lanes<T>::type v) { *(typename Lanes<T>::loose*)p = v; }
IN void st(int16_t* p, vi32 v) { st(p, __builtin_convertvector(v, Lanes<int16_t>::type)); }
IN void st(int8_t* p, vi32 v) { st(p, __builtin_convertvector(v, Lanes<int8_t>::type)); }
IN void st(uint8_t* p, vi32 v) { st(p, __builtin_convertvector(v, Lanes<uint8_t>::type)); }
IN void st(bool* p, vi32 v) { st((uint8_t*)p, v & 1); }
IN void st(f16_t* p, vf32 v) { st(p, __builtin_convertvector(v, Lanes<f16_t>::type)); }
IN void st(bf16_t* p, vf32 v) {
  Lanes<uint32_t>::type u = as<Lanes<uint32_t>::type>(v);
  u = (v != v) ? (u & 0) + 0x7fc0u : (u + 0x7fff + ((u >> 16) & 1)) >> 16;
  st((uint16_t*)p, __builtin_convertvector(u, Lanes<uint16_t>::type));
}
template <class T, class V> IN void st(T* p, V v, int64_t n) {
  T lanes[W];
  st(lanes, v);
  for (int64_t i = 0; i < n; i++) p[i] = lanes[i];
}
#if defined(__AVX512F__) && W == 16
#define LANES(n) (uint16_t)((1u << (n)) - 1)
IN vf32 ld(const float* p, int64_t n) { return __builtin_ia32_loadups512_mask(p, vf32{}, LANES(n)); }
IN void st(float* p, vf32 v, int64_t n) { __builtin_ia32_storeups512_mask(p, v, LANES(n)); }
#elif defined(__AVX512VL__) && W == 8
#define LANES(n) (uint8_t)((1u << (n)) - 1)
IN vf32 ld(const float* p, int64_t n) { return __builtin_ia32_loadups256_mask(p, vf32{}, LANES(n)); }
IN void st(float* p, vf32 v, int64_t n) { __builtin_ia32_storeups256_mask(p, v, LANES(n)); }
#endif
template <class T, class V> IN void stream(T* p, V v) { st(p, v); }
#ifdef __AVX512F__
template <> IN void stream(float* p, vf32 v) {
  if ((usize)p % sizeof v) return st(p, v);
#if W == 16
  __builtin_ia32_movntps512(p, v);
#elif W == 8
  __builtin_ia32_movntps256(p, v);
#else
  st(p, v);
#endif
}
#endif
template <class T> IN auto gather(const T* p, int64_t stride, int64_t n) {
  T lanes[W] = {};
  for (int64_t i = 0; i < n; i++) lanes[i] = p[i * stride];
  return ld(lanes);
}
template <class T> IN auto gather(const T* p, vi64 at, int64_t n) {
  T lanes[W] = {};
  for (int64_t i = 0; i < n; i++) lanes[i] = p[at[i]];
  return ld(lanes);
}
template <class T, class V> IN void scatter(T* p, int64_t stride, V v, int64_t n) {
  T lanes[W];
  st(lanes, v);
  for (int64_t i = 0; i < n; i++) p[i * stride] = lanes[i];
}
// How many of n ascending elements a value goes past, by the probes that torch makes.
template <bool RIGHT, class S> IN bool past(S border, S v) { return RIGHT ? !(border > v) : !(border >= v); }
template <bool RIGHT, class T, class S> IN int64_t find(const T* p, int64_t stride, int64_t n, S v) {
  int64_t low = 0;
  while (n > 0) {
    const int64_t half = n >> 1;
    const bool go = past<RIGHT>(widen(p[(low + half) * stride]), v);
    low = go ? low + half + 1 : low;
    n = (n - go) >> 1;
  }
  return low;
}
template <bool RIGHT, class T, class V>
IN vi64 find(const T* p, vi64 from, int64_t stride, int64_t n, V v, int64_t lanes) {
  int64_t low[W] = {}, left[W];
  for (int i = 0; i < W; i++) left[i] = n;
  for (int64_t most = n; most > 0; most >>= 1)
    for (int i = 0; i < lanes; i++) {
      const int64_t half = left[i] >> 1, at = left[i] ? low[i] + half : 0;
      const bool go = left[i] != 0 & past<RIGHT>(widen(p[from[i] + at * stride]), v[i]);
      low[i] += go ? half + 1 : 0;
      left[i] = (left[i] - go) >> 1;
    }
  return ld(low);
}
// The same for ascending values in a table that ascends for sure.
template <class T> IN vi64 find_next(const T* p, int64_t stride, int64_t n, vi64 v, int64_t lanes) {
  int64_t at[W] = {}, low = find<true>(p, stride, n, v[0]);
  for (int i = 0; i < lanes; i++) {
    while (low < n && p[low * stride] <= v[i]) low++;
    at[i] = low;
  }
  return ld(at);
}
IN vi64 iota() { vi64 v; for (int i = 0; i < W; i++) v[i] = i; return v; }
IN vi32 first(int64_t n) { vi32 v; for (int i = 0; i < W; i++) v[i] = i; return v < splat<vi32>((int32_t)n); }

// Selection, comparison and reduction over lanes; masks are vi32 (0 or -1).
IN vi32 mask32(vi32 m) { return m; }
IN vi32 mask32(vi64 m) { return __builtin_convertvector(m, vi32); }
template <class V> IN V sel(vi32 m, V a, V b) {
  if constexpr (sizeof(V) == sizeof(vi32)) return m ? a : b;
  else return __builtin_convertvector(m, vi64) ? a : b;
}
template <class T> IN T sel(bool m, T a, T b) { return m ? a : b; }
#define COMPARE(name, op) \
  template <class V> IN vi32 name(V a, V b) { return mask32(a op b); } \
  IN bool name(float a, float b) { return a op b; } IN bool name(double a, double b) { return a op b; } \
  IN bool name(int32_t a, int32_t b) { return a op b; } IN bool name(int64_t a, int64_t b) { return a op b; } \
  IN bool name(bool a, bool b) { return a op b; }
COMPARE(lt, <) COMPARE(le, <=) COMPARE(gt, >) COMPARE(ge, >=) COMPARE(eq, ==) COMPARE(ne, !=)
template <class V> IN auto isnan_(V a) { return ne(a, a); }
template <class V> IN auto vhardmax(V a, V b) { return sel(gt(a, b), a, b); }  // NaN only from b
template <class V> IN auto vhardmin(V a, V b) { return sel(lt(a, b), a, b); }
template <class V> IN auto vmax(V a, V b) { return sel(gt(a, b) | ne(a, a), a, b); }
template <class V> IN auto vmin(V a, V b) { return sel(lt(a, b) | ne(a, a), a, b); }
#if defined(__AVX512F__) && W == 16
IN vf32 vhardmax(vf32 a, vf32 b) { return __builtin_ia32_maxps512_mask(a, b, a, 0xffff, 4); }
IN vf32 vhardmin(vf32 a, vf32 b) { return __builtin_ia32_minps512_mask(a, b, a, 0xffff, 4); }
IN uint16_t ordered(vf32 a) { return __builtin_ia32_cmpps512_mask(a, a, 7, 0xffff, 4); }
IN vf32 vmax(vf32 a, vf32 b) { return __builtin_ia32_maxps512_mask(a, b, a, ordered(a), 4); }
IN vf32 vmin(vf32 a, vf32 b) { return __builtin_ia32_minps512_mask(a, b, a, ordered(a), 4); }
#elif defined(__AVX__) && W == 8
IN vf32 vhardmax(vf32 a, vf32 b) { return __builtin_ia32_maxps256(a, b); }
IN vf32 vhardmin(vf32 a, vf32 b) { return __builtin_ia32_minps256(a, b); }
#endif
template <class V, class F> IN auto fold(V v, F f) {
  typename Traits<V>::scalar lanes[W];
  *(typename Lanes<typename Traits<V>::scalar>::loose*)lanes = v;
  for (int step = W / 2; step; step /= 2)
    for (int i = 0; i < step; i++) lanes[i] = f(lanes[i], lanes[i + step]);
  return lanes[0];
}
template <class To, class V> IN To to(V v) { return __builtin_convertvector(v, To); }
template <class V> IN V vmod(V a, V b) { return a - (a / b) * b; }
template <class V> struct Best { V value; vi64 at; };
template <class... S> inline usize largest(S... sizes) {
  usize most = 0;
  ((most = most < sizes ? sizes : most), ...);
  return most;
}
template <int SLOT> inline void* scratch(usize bytes) {  // grows, is kept between calls
  static thread_local char* memory; static thread_local usize have;
  if (have < bytes) {
    __builtin_free(memory);
    memory = (char*)__builtin_malloc(bytes + 128);
    have = bytes;
  }
  return (void*)(((usize)memory + 63) / 64 * 64);
}
template <class S> IN bool better(S v, S best, bool largest) {
  return v != v ? best == best : (largest ? v > best : v < best);
}
template <class V> IN int64_t where_best(V value, vi64 at, bool largest) {  // ties: the first
  int64_t found = at[0];
  auto best = value[0];
  for (int i = 1; i < W; i++)
    if (better(value[i], best, largest) || (!better(best, value[i], largest) && at[i] < found)) {
      best = value[i]; found = at[i];
    }
  return found;
}
#define PLUS [](auto a, auto b) { return a + b; }
#define TIMES [](auto a, auto b) { return a * b; }
#define MOST [](auto a, auto b) { return vmax(a, b); }
#define LEAST [](auto a, auto b) { return vmin(a, b); }
#ifndef WORTH
#define WORTH 0
#endif
#ifdef _OPENMP
extern "C" int omp_get_max_threads(void);
static thread_local int64_t allowed;  // what the caller may use; 0: as many as OpenMP would
IN int64_t threads() { return allowed ? allowed : omp_get_max_threads(); }
#else
IN int64_t threads() { return 1; }
#endif
IN int64_t workers(int64_t picoseconds) { return picoseconds < WORTH ? 1 : threads(); }
struct Share { int64_t from, count; };
IN Share share(int64_t n, int64_t unit, int64_t at, int64_t parts) {
  const int64_t units = (n + unit - 1) / unit, from = units * at / parts * unit, to = units * (at + 1) / parts * unit;
  return {from, (to < n ? to : n) - from};
}
extern "C" int madvise(void*, usize, int);
template <class T> inline void large_pages(T* p, int64_t n) {  // a hint: 2 MiB pages inside [p, p + n)
  const usize page = 1 << 21, from = ((usize)p + page - 1) / page * page, to = (usize)(p + n) / page * page;
  if (to > from + page) madvise((void*)from, to - from, 14);
}
#if defined(__has_builtin) && __has_builtin(__builtin_assoc_barrier)
template <class V> IN V less(V a, V b) { return __builtin_assoc_barrier(a) - __builtin_assoc_barrier(b); }
#else
template <class V> IN V less(V a, V b) { volatile V x = a, y = b; return x - y; }
#endif
