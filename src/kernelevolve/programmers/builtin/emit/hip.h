#include <hip/hip_runtime.h>
// What HIP calls what emitted kernels use. Their warps have 32 lanes: a wavefront of 64 holds two.
#define WARP_LANES 32
#ifdef NARROW_FLOATS
typedef _Float16 f16_t;
struct bf16_t { unsigned short bits; };
__device__ __forceinline__ float float_of(f16_t v) { return (float)v; }
__device__ __forceinline__ float float_of(bf16_t v) { return __uint_as_float((unsigned)v.bits << 16); }
__device__ __forceinline__ f16_t f16_of(float v) { return (f16_t)v; }
__device__ __forceinline__ bf16_t bf16_of(float v) {
  const unsigned wide = __float_as_uint(v), near = wide + 0x7fff + (wide >> 16 & 1);
  return {(unsigned short)(v != v ? 0x7fff : near >> 16)};
}
#endif
template <class T> __device__ __forceinline__ T less(T a, T b) {
#pragma clang fp contract(off)
  return a - b;
}
template <class T> __device__ __forceinline__ T lane_at(T v, int from) { return __shfl(v, from, WARP_LANES); }
template <class T> __device__ __forceinline__ T lane_below(T v, int by) { return __shfl_up(v, by, WARP_LANES); }
template <class T> __device__ __forceinline__ T lane_across(T v, int by) { return __shfl_xor(v, by, WARP_LANES); }
__device__ __forceinline__ unsigned lanes_where(bool told) { return (unsigned)(__ballot(told) >> (__lane_id() & WARP_LANES)); }
