// What CUDA calls what emitted kernels use.
#define WHOLE_WARP 0xffffffff
#ifdef NARROW_FLOATS
#include <cuda_bf16.h>
#include <cuda_fp16.h>
typedef __half f16_t;
typedef __nv_bfloat16 bf16_t;
__device__ __forceinline__ float float_of(f16_t v) { return __half2float(v); }
__device__ __forceinline__ float float_of(bf16_t v) { return __bfloat162float(v); }
__device__ __forceinline__ f16_t f16_of(float v) { return __float2half_rn(v); }
__device__ __forceinline__ bf16_t bf16_of(float v) { return __float2bfloat16_rn(v); }
#endif
#ifdef SIMT_EMULATED
template <class T> __device__ __forceinline__ T less(T a, T b) { return a - b; }
#else
__device__ __forceinline__ float less(float a, float b) { return __fsub_rn(a, b); }
__device__ __forceinline__ double less(double a, double b) { return __dsub_rn(a, b); }
#endif
template <class T> __device__ __forceinline__ T lane_at(T v, int from) { return __shfl_sync(WHOLE_WARP, v, from); }
template <class T> __device__ __forceinline__ T lane_below(T v, int by) { return __shfl_up_sync(WHOLE_WARP, v, by); }
template <class T> __device__ __forceinline__ T lane_across(T v, int by) { return __shfl_xor_sync(WHOLE_WARP, v, by); }
__device__ __forceinline__ unsigned lanes_where(bool told) { return __ballot_sync(WHOLE_WARP, told); }
