// What a CUDA kernel sees when it is compiled for the processor instead; included before its text.
//
// One fiber stands for each thread of a block; blocks come one after the other. The kernel is
// compiled with -fsanitize=thread, whose hooks simt.cpp provides: they see every access.
#pragma once
#include <algorithm>
#include <cfloat>
#include <climits>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include "launch.h"

#ifndef SIMT_WARP
#define SIMT_WARP 32
#endif
#define SIMT_PLAIN __attribute__((no_sanitize("thread")))

using std::abs;
using std::isfinite;
using std::isinf;
using std::isnan;
using std::max;
using std::min;
using std::signbit;

#define __CUDACC_RTC__ 1
#define SIMT_EMULATED 1
#define __global__
#define __device__
#define __host__
#define __managed__
#define __shared__ static __attribute__((used))  // else what is never written counts as zero
#define __constant__ __attribute__((section("simt_constant")))
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __maxnreg__(...)
#define __cluster_dims__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))
#define __builtin_align__(n) __attribute__((aligned(n)))
#define __nv_pure__
#undef assert
#define assert(told) \
  do { if (!(told)) simt_fail_assert(#told); } while (0)

#define SIMT_VECTOR(T, name, lanes1, lanes2, lanes4)                                           \
  struct name##1 { T x; };                                                                     \
  struct alignas(lanes2) name##2 { T x, y; };                                                  \
  struct name##3 { T x, y, z; };                                                               \
  struct alignas(lanes4) name##4 { T x, y, z, w; };                                            \
  inline name##1 make_##name##1(T x) { return {x}; }                                           \
  inline name##2 make_##name##2(T x, T y) { return {x, y}; }                                   \
  inline name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; }                           \
  inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;
typedef long long longlong;
typedef unsigned long long ulonglong;
SIMT_VECTOR(signed char, char, 1, 2, 4)
SIMT_VECTOR(unsigned char, uchar, 1, 2, 4)
SIMT_VECTOR(short, short, 2, 4, 8)
SIMT_VECTOR(unsigned short, ushort, 2, 4, 8)
SIMT_VECTOR(int, int, 4, 8, 16)
SIMT_VECTOR(unsigned int, uint, 4, 8, 16)
SIMT_VECTOR(long long, longlong, 8, 16, 16)
SIMT_VECTOR(unsigned long long, ulonglong, 8, 16, 16)
SIMT_VECTOR(float, float, 4, 8, 16)
SIMT_VECTOR(double, double, 8, 16, 16)

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

extern "C" {
// The same for the whole life of a thread in a block, so that a compiler may ask once.
__attribute__((const)) simt_index simt_thread_index();
__attribute__((const)) simt_index simt_block_index();
__attribute__((const)) simt_index simt_block_size();
__attribute__((const)) simt_index simt_grid_size();
}
#define threadIdx (simt_thread_index())
#define blockIdx (simt_block_index())
#define blockDim (simt_block_size())
#define gridDim (simt_grid_size())
#define warpSize SIMT_WARP

#define __syncthreads() simt_barrier(0, 0)
#define __syncthreads_or(told) simt_barrier(1, (told) != 0)
#define __syncthreads_and(told) simt_barrier(2, (told) != 0)
#define __syncthreads_count(told) simt_barrier(3, (told) != 0)
#define SIMT_ALL (SIMT_WARP == 64 ? ~0ull : 0xffffffffull)
#define SIMT_FIRST(mask, ...) (mask)
#define __syncwarp(...) simt_warp(SIMT_FIRST(__VA_ARGS__ __VA_OPT__(,) SIMT_ALL, 0), 0, 0, 0)
#define __threadfence() ((void)0)
#define __threadfence_block() ((void)0)
#define __threadfence_system() ((void)0)
#define __activemask() simt_active()
#define __nanosleep(ns) ((void)0)
#define __trap() simt_fail_assert("__trap()")

namespace simt {
template <class T>
__forceinline__ uint64_t bits_of(T value) {
  static_assert(sizeof(T) <= 8, "a shuffled value has at most eight bytes");
  uint64_t bits = 0;
  __builtin_memcpy(&bits, &value, sizeof(T));
  return bits;
}
template <class T>
__forceinline__ T of_bits(uint64_t bits) {
  T value;
  __builtin_memcpy(&value, &bits, sizeof(T));
  return value;
}
__forceinline__ int lane() {
  simt_index t = simt_thread_index(), n = simt_block_size();
  return (t.x + n.x * (t.y + n.y * t.z)) % SIMT_WARP;
}
template <class T>
__forceinline__ T shuffle(uint64_t mask, T value, int source, int width, bool inside) {
  int first = lane() & ~(width - 1);
  int from = inside ? first + (source & (width - 1)) : lane();
  return of_bits<T>(simt_warp(mask, 1, bits_of(value), from));
}
template <class T>
__forceinline__ T reduce(uint64_t mask, T value, T (*fold)(T, T)) {
  T found{};
  bool any = false;
  for (int other = 0; other < SIMT_WARP; other++)
    if (mask >> other & 1) {
      T theirs = of_bits<T>(simt_warp(mask, 1, bits_of(value), other));
      found = any ? fold(found, theirs) : theirs;
      any = true;
    }
  return found;
}
}  // namespace simt

template <class T>
__forceinline__ T __shfl_sync(uint64_t mask, T value, int source, int width = SIMT_WARP) {
  return simt::shuffle(mask, value, source, width, true);
}
template <class T>
__forceinline__ T __shfl_up_sync(uint64_t mask, T value, unsigned by, int width = SIMT_WARP) {
  int at = (simt::lane() & (width - 1)) - int(by);
  return simt::shuffle(mask, value, at, width, at >= 0);
}
template <class T>
__forceinline__ T __shfl_down_sync(uint64_t mask, T value, unsigned by, int width = SIMT_WARP) {
  int at = (simt::lane() & (width - 1)) + int(by);
  return simt::shuffle(mask, value, at, width, at < width);
}
template <class T>
__forceinline__ T __shfl_xor_sync(uint64_t mask, T value, int by, int width = SIMT_WARP) {
  int at = (simt::lane() & (width - 1)) ^ by;
  return simt::shuffle(mask, value, at, width, at < width);
}
__forceinline__ unsigned long long simt_ballot(uint64_t mask, bool told) { return simt_warp(mask, 2, told, 0); }
#define __ballot_sync(mask, told) \
  ((std::conditional_t<SIMT_WARP == 64, unsigned long long, unsigned>)simt_ballot(mask, (told) != 0))
#define __any_sync(mask, told) (simt_ballot(mask, (told) != 0) != 0)
#define __all_sync(mask, told) (simt_ballot(mask, (told) == 0) == 0)
__forceinline__ unsigned __reduce_add_sync(unsigned mask, unsigned v) { return simt::reduce<unsigned>(mask, v, [](unsigned a, unsigned b) { return a + b; }); }
__forceinline__ int __reduce_add_sync(unsigned mask, int v) { return simt::reduce<int>(mask, v, [](int a, int b) { return int(unsigned(a) + unsigned(b)); }); }
__forceinline__ int __reduce_max_sync(unsigned mask, int v) { return simt::reduce<int>(mask, v, [](int a, int b) { return a > b ? a : b; }); }
__forceinline__ int __reduce_min_sync(unsigned mask, int v) { return simt::reduce<int>(mask, v, [](int a, int b) { return a < b ? a : b; }); }
__forceinline__ unsigned __reduce_max_sync(unsigned mask, unsigned v) { return simt::reduce<unsigned>(mask, v, [](unsigned a, unsigned b) { return a > b ? a : b; }); }
__forceinline__ unsigned __reduce_min_sync(unsigned mask, unsigned v) { return simt::reduce<unsigned>(mask, v, [](unsigned a, unsigned b) { return a < b ? a : b; }); }
__forceinline__ unsigned __reduce_and_sync(unsigned mask, unsigned v) { return simt::reduce<unsigned>(mask, v, [](unsigned a, unsigned b) { return a & b; }); }
__forceinline__ unsigned __reduce_or_sync(unsigned mask, unsigned v) { return simt::reduce<unsigned>(mask, v, [](unsigned a, unsigned b) { return a | b; }); }
template <class T>
__forceinline__ unsigned __match_any_sync(unsigned mask, T value) {
  unsigned found = 0;
  for (int other = 0; other < SIMT_WARP; other++)
    if (mask >> other & 1) found |= unsigned(__shfl_sync(mask, value, other) == value) << other;
  return found;
}

// Atomics: threads never run at the same time here, so plain steps will do; accesses are checked.
#define SIMT_ATOMIC(name, T, step)                                       \
  SIMT_PLAIN inline T simt_plain_##name(T* at, T v) {                    \
    T old = *at;                                                         \
    *at = step;                                                          \
    return old;                                                          \
  }                                                                      \
  __forceinline__ T name(T* at, T v) {                                   \
    simt_touch(at, sizeof(T));                                           \
    return simt_plain_##name(at, v);                                     \
  }
#define SIMT_ATOMICS(T)                                                  \
  SIMT_ATOMIC(atomicAdd, T, old + v)                                     \
  SIMT_ATOMIC(atomicExch, T, v)
#define SIMT_ORDERED(T)                                                  \
  SIMT_ATOMICS(T)                                                        \
  SIMT_ATOMIC(atomicSub, T, old - v)                                     \
  SIMT_ATOMIC(atomicMin, T, v < old ? v : old)                           \
  SIMT_ATOMIC(atomicMax, T, v > old ? v : old)                           \
  SIMT_ATOMIC(atomicAnd, T, old & v)                                     \
  SIMT_ATOMIC(atomicOr, T, old | v)                                      \
  SIMT_ATOMIC(atomicXor, T, old ^ v)                                     \
  SIMT_PLAIN inline T simt_plain_cas(T* at, T expected, T v) {           \
    T old = *at;                                                         \
    if (old == expected) *at = v;                                        \
    return old;                                                          \
  }                                                                      \
  __forceinline__ T atomicCAS(T* at, T expected, T v) {                  \
    simt_touch(at, sizeof(T));                                           \
    return simt_plain_cas(at, expected, v);                              \
  }
SIMT_ATOMICS(float)
SIMT_ATOMICS(double)
SIMT_ORDERED(int)
SIMT_ORDERED(unsigned)
SIMT_ORDERED(unsigned long long)
SIMT_ORDERED(long long)
SIMT_ORDERED(unsigned long)  // uint64_t here, which is unsigned long long in NVRTC
SIMT_ORDERED(long)
SIMT_ATOMIC(atomicInc, unsigned, old >= v ? 0 : old + 1)
SIMT_ATOMIC(atomicDec, unsigned, old == 0 || old > v ? v : old - 1)

// Arithmetic that the processor's library has under other names.
#define __ldg(at) (*(at))
#define __ldcg(at) (*(at))
#define __ldcs(at) (*(at))
#define __ldca(at) (*(at))
template <class T> inline void __stcs(T* at, T v) { *at = v; }
template <class T> inline void __stcg(T* at, T v) { *at = v; }
inline float __expf(float x) { return expf(x); }
inline float __exp10f(float x) { return powf(10.0f, x); }
inline float __logf(float x) { return logf(x); }
inline float __log2f(float x) { return log2f(x); }
inline float __log10f(float x) { return log10f(x); }
inline float __sinf(float x) { return sinf(x); }
inline float __cosf(float x) { return cosf(x); }
inline float __tanf(float x) { return tanf(x); }
inline float __powf(float x, float y) { return powf(x, y); }
inline float __saturatef(float x) { return x > 1 ? 1.0f : x > 0 ? x : 0.0f; }
inline float __fdividef(float x, float y) { return x / y; }
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }
inline float rsqrt(float x) { return 1.0f / sqrtf(x); }
inline float __frsqrt_rn(float x) { return 1.0f / sqrtf(x); }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fsub_rn(float x, float y) { return x - y; }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fdiv_rn(float x, float y) { return x / y; }
inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
inline float normcdff(float x) { return 0.5f * erfcf(-x * 0.70710678f); }
inline float exp10f(float x) { return powf(10.0f, x); }
inline float rcbrtf(float x) { return 1.0f / cbrtf(x); }
inline void sincosf_(float x, float* s, float* c) { *s = sinf(x), *c = cosf(x); }
#define __sincosf(x, s, c) sincosf_(x, s, c)
inline int __float_as_int(float x) { return simt::of_bits<int>(simt::bits_of(x)); }
inline unsigned __float_as_uint(float x) { return simt::of_bits<unsigned>(simt::bits_of(x)); }
inline float __int_as_float(int x) { return simt::of_bits<float>(simt::bits_of(x)); }
inline float __uint_as_float(unsigned x) { return simt::of_bits<float>(simt::bits_of(x)); }
inline long long __double_as_longlong(double x) { return simt::of_bits<long long>(simt::bits_of(x)); }
inline double __longlong_as_double(long long x) { return simt::of_bits<double>(simt::bits_of(x)); }
inline int __float2int_rn(float x) { return int(nearbyintf(x)); }
inline int __float2int_rd(float x) { return int(floorf(x)); }
inline int __float2int_ru(float x) { return int(ceilf(x)); }
inline int __float2int_rz(float x) { return int(x); }
inline unsigned __float2uint_rn(float x) { return unsigned(nearbyintf(x)); }
inline float __int2float_rn(int x) { return float(x); }
inline float __uint2float_rn(unsigned x) { return float(x); }
inline float __double2float_rn(double x) { return float(x); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x ? __builtin_clz(unsigned(x)) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)x) : 64; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline unsigned __brev(unsigned x) {
  unsigned found = 0;
  for (int i = 0; i < 32; i++) found |= (x >> i & 1) << (31 - i);
  return found;
}
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned s) {
  uint64_t both = (uint64_t(y) << 32) | x;
  unsigned found = 0;
  for (int i = 0; i < 4; i++) found |= unsigned(both >> (8 * (s >> (4 * i) & 7)) & 0xff) << (8 * i);
  return found;
}
inline int __mulhi(int x, int y) { return int((int64_t(x) * y) >> 32); }
inline unsigned __umulhi(unsigned x, unsigned y) { return unsigned((uint64_t(x) * y) >> 32); }
inline int __mul24(int x, int y) { return x * y; }
inline unsigned __funnelshift_l(unsigned lo, unsigned hi, unsigned by) {
  return unsigned((((uint64_t(hi) << 32) | lo) << (by & 31)) >> 32);
}
inline unsigned __funnelshift_r(unsigned lo, unsigned hi, unsigned by) {
  return unsigned(((uint64_t(hi) << 32) | lo) >> (by & 31));
}
inline unsigned max(unsigned x, int y) { return std::max(x, unsigned(y)); }
inline unsigned max(int x, unsigned y) { return std::max(unsigned(x), y); }
inline unsigned min(unsigned x, int y) { return std::min(x, unsigned(y)); }
inline unsigned min(int x, unsigned y) { return std::min(unsigned(x), y); }
inline long max(long x, int y) { return std::max(x, long(y)); }
inline long min(long x, int y) { return std::min(x, long(y)); }
inline long max(int x, long y) { return std::max(long(x), y); }
inline long min(int x, long y) { return std::min(long(x), y); }
inline long long clock64() { return 0; }
inline int clock() { return 0; }

namespace simt {
template <class T>
SIMT_PLAIN T argument(const simt_launch* launch, int number) {
  if constexpr (std::is_pointer_v<T>) return reinterpret_cast<T>(launch->integers[number]);
  else if constexpr (std::is_integral_v<T>) return static_cast<T>(launch->integers[number]);
  else return T(float(launch->reals[number]));
}
template <>
SIMT_PLAIN inline double argument<double>(const simt_launch* launch, int number) {
  return launch->reals[number];
}
template <class... A, size_t... I>
SIMT_PLAIN void call(const void* kernel, const simt_launch* launch, std::index_sequence<I...>) {
  reinterpret_cast<void (*)(A...)>(const_cast<void*>(kernel))(
      argument<std::remove_cv_t<A>>(launch, I)...);
}
template <class... A>
SIMT_PLAIN void invoke(const void* kernel, const simt_launch* launch) {
  call<A...>(kernel, launch, std::index_sequence_for<A...>());
}
template <class... A>
SIMT_PLAIN int start(simt_launch* launch, void (*kernel)(A...), const simt_image& image) {
  return simt_run(launch, &invoke<A...>, reinterpret_cast<const void*>(kernel), sizeof...(A), &image);
}
}  // namespace simt
