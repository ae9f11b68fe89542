// Half precision for kernels that run on the processor: each step in float32, rounded once.
#pragma once

struct alignas(2) __half {
  _Float16 value;
  constexpr __half() : value() {}  // constant, so that shared arrays of it need no set-up
  __half(float x) : value(_Float16(x)) {}
  explicit __half(double x) : value(_Float16(x)) {}
  explicit __half(int x) : value(_Float16(x)) {}
  operator float() const { return float(value); }
};
typedef __half half;
struct alignas(4) __half2 {
  __half x, y;
  constexpr __half2() : x(), y() {}
  __half2(__half x, __half y) : x(x), y(y) {}
};
typedef __half2 half2;
#define SIMT_NARROW __half
#define SIMT_NARROW2 __half2
#include "simt_narrow.h"
#undef SIMT_NARROW
#undef SIMT_NARROW2

inline __half __float2half(float x) { return __half(x); }
inline __half __float2half_rn(float x) { return __half(x); }
inline float __half2float(__half x) { return float(x); }
inline __half2 __float2half2_rn(float x) { return {__half(x), __half(x)}; }
inline __half2 __floats2half2_rn(float x, float y) { return {__half(x), __half(y)}; }
inline __half2 __float22half2_rn(float2 v) { return {__half(v.x), __half(v.y)}; }
inline float2 __half22float2(__half2 v) { return {float(v.x), float(v.y)}; }
inline __half2 __half2half2(__half x) { return {x, x}; }
inline __half2 __halves2half2(__half x, __half y) { return {x, y}; }
inline __half2 make_half2(__half x, __half y) { return {x, y}; }
inline __half __low2half(__half2 v) { return v.x; }
inline __half __high2half(__half2 v) { return v.y; }
inline float __low2float(__half2 v) { return float(v.x); }
inline float __high2float(__half2 v) { return float(v.y); }
inline __half __int2half_rn(int x) { return __half(float(x)); }
inline int __half2int_rn(__half x) { return int(nearbyintf(float(x))); }
inline unsigned short __half_as_ushort(__half x) { return (unsigned short)simt::bits_of(x); }
inline __half __ushort_as_half(unsigned short x) { return simt::of_bits<__half>(x); }
