// bfloat16 for kernels that run on the processor: each step in float32, rounded to nearest even.
#pragma once

struct alignas(2) __nv_bfloat16 {
  unsigned short bits;
  constexpr __nv_bfloat16() : bits() {}
  __nv_bfloat16(float x) {
    unsigned wide = __float_as_uint(x);
    bool number = (wide & 0x7fffffff) <= 0x7f800000;
    bits = (unsigned short)(number ? (wide + 0x7fff + (wide >> 16 & 1)) >> 16 : 0x7fff);
  }
  explicit __nv_bfloat16(double x) : __nv_bfloat16(float(x)) {}
  explicit __nv_bfloat16(int x) : __nv_bfloat16(float(x)) {}
  operator float() const { return __uint_as_float(unsigned(bits) << 16); }
};
typedef __nv_bfloat16 nv_bfloat16;
struct alignas(4) __nv_bfloat162 {
  __nv_bfloat16 x, y;
  constexpr __nv_bfloat162() : x(), y() {}
  __nv_bfloat162(__nv_bfloat16 x, __nv_bfloat16 y) : x(x), y(y) {}
};
typedef __nv_bfloat162 nv_bfloat162;
#define SIMT_NARROW __nv_bfloat16
#define SIMT_NARROW2 __nv_bfloat162
#include "simt_narrow.h"
#undef SIMT_NARROW
#undef SIMT_NARROW2

inline __nv_bfloat16 __float2bfloat16(float x) { return __nv_bfloat16(x); }
inline __nv_bfloat16 __float2bfloat16_rn(float x) { return __nv_bfloat16(x); }
inline float __bfloat162float(__nv_bfloat16 x) { return float(x); }
inline __nv_bfloat162 __float2bfloat162_rn(float x) { return {__nv_bfloat16(x), __nv_bfloat16(x)}; }
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) {
  return {__nv_bfloat16(x), __nv_bfloat16(y)};
}
inline __nv_bfloat162 __float22bfloat162_rn(float2 v) { return {__nv_bfloat16(v.x), __nv_bfloat16(v.y)}; }
inline float2 __bfloat1622float2(__nv_bfloat162 v) { return {float(v.x), float(v.y)}; }
inline __nv_bfloat162 __bfloat162bfloat162(__nv_bfloat16 x) { return {x, x}; }
inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 x, __nv_bfloat16 y) { return {x, y}; }
inline __nv_bfloat162 make_bfloat162(__nv_bfloat16 x, __nv_bfloat16 y) { return {x, y}; }
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 x) { return x.bits; }
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short x) { return simt::of_bits<__nv_bfloat16>(x); }
