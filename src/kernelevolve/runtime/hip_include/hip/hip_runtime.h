// HIP's names where AMD's compiler is not: on the emulator, with wavefronts of 64, and in NVRTC on
// an NVIDIA GPU, with warps of 32. What would reach a lane that a warp of 32 has not is no value
// there: it is printed, and ends the launch.
#pragma once

#define hipThreadIdx_x threadIdx.x
#define hipThreadIdx_y threadIdx.y
#define hipThreadIdx_z threadIdx.z
#define hipBlockIdx_x blockIdx.x
#define hipBlockIdx_y blockIdx.y
#define hipBlockIdx_z blockIdx.z
#define hipBlockDim_x blockDim.x
#define hipBlockDim_y blockDim.y
#define hipBlockDim_z blockDim.z
#define hipGridDim_x gridDim.x
#define hipGridDim_y gridDim.y
#define hipGridDim_z gridDim.z
#define unsafeAtomicAdd(at, v) atomicAdd(at, v)
#define safeAtomicAdd(at, v) atomicAdd(at, v)
#define __builtin_amdgcn_s_barrier() __syncthreads()
#define __builtin_amdgcn_rcpf(x) (1.0f / (x))
#define __builtin_amdgcn_rsqf(x) rsqrtf(x)
#define __builtin_amdgcn_exp2f(x) exp2f(x)

#define HIP_IN template <class T> __device__ __forceinline__ T

// HIP's masks have 64 bits on every device.
template <class M> __device__ __forceinline__ unsigned long long hip_mask(M mask) {
  static_assert(sizeof(M) == 8, "The mask must be a 64-bit integer");
  return mask;
}

#ifdef SIMT_EMULATED
namespace simt {
HIP_IN met(T value, int source, int width, bool inside, int line) {
  int from = inside ? (lane() & ~(width - 1)) + (source & (width - 1)) : lane();
  return of_bits<T>(simt_here(line, 1, bits_of(value), from));
}
}  // namespace simt
#define HIP_LINE int line = __builtin_LINE()
HIP_IN __shfl(T v, int from, int width = SIMT_WARP, HIP_LINE) {
  return simt::met(v, from, width, true, line);
}
HIP_IN __shfl_up(T v, unsigned by, int width = SIMT_WARP, HIP_LINE) {
  int at = (simt::lane() & (width - 1)) - int(by);
  return simt::met(v, at, width, at >= 0, line);
}
HIP_IN __shfl_down(T v, unsigned by, int width = SIMT_WARP, HIP_LINE) {
  int at = (simt::lane() & (width - 1)) + int(by);
  return simt::met(v, at, width, at < width, line);
}
HIP_IN __shfl_xor(T v, int by, int width = SIMT_WARP, HIP_LINE) {
  int at = (simt::lane() & (width - 1)) ^ by;
  return simt::met(v, at, width, at < width, line);
}
__forceinline__ unsigned long long __ballot(int told, HIP_LINE) { return simt_here(line, 2, told != 0, 0); }
__forceinline__ int __any(int told, HIP_LINE) { return __ballot(told, line) != 0; }
__forceinline__ int __all(int told, HIP_LINE) { return __ballot(!told, line) == 0; }
__forceinline__ void __builtin_amdgcn_wave_barrier(HIP_LINE) { simt_here(line, 0, 0, 0); }
__forceinline__ int __builtin_amdgcn_readfirstlane(int v, HIP_LINE) {
  unsigned long long here = __ballot(1, line);
  return simt::of_bits<int>(simt_here(line, 1, simt::bits_of(v), __builtin_ctzll(here)));
}
#undef __activemask
#define __activemask() __ballot(1)
#define __lane_id() unsigned(simt::lane())
#else
__device__ __forceinline__ void hip_reaches(bool fine, const char *what) {
  if (!fine) {
    printf("%s reaches beyond a warp of 32: the kernel is for wavefronts of 64\n", what);
    __trap();
  }
}
HIP_IN hip_shfl(T v, int from, int width = warpSize) {
  hip_reaches(width <= warpSize && from < warpSize, "__shfl");
  return __shfl_sync(__activemask(), v, from, width);
}
HIP_IN hip_shfl_up(T v, unsigned by, int width = warpSize) {
  hip_reaches(width <= warpSize && by < warpSize, "__shfl_up");
  return __shfl_up_sync(__activemask(), v, by, width);
}
HIP_IN hip_shfl_down(T v, unsigned by, int width = warpSize) {
  hip_reaches(width <= warpSize && by < warpSize, "__shfl_down");
  return __shfl_down_sync(__activemask(), v, by, width);
}
HIP_IN hip_shfl_xor(T v, int by, int width = warpSize) {
  hip_reaches(width <= warpSize && by < warpSize, "__shfl_xor");
  return __shfl_xor_sync(__activemask(), v, by, width);
}
__device__ __forceinline__ unsigned long long hip_ballot(int told) { return __ballot_sync(__activemask(), told); }
__device__ __forceinline__ int hip_any(int told) { return __any_sync(__activemask(), told); }
__device__ __forceinline__ int hip_all(int told) { return __all_sync(__activemask(), told); }
#define __shfl(...) hip_shfl(__VA_ARGS__)
#define __shfl_up(...) hip_shfl_up(__VA_ARGS__)
#define __shfl_down(...) hip_shfl_down(__VA_ARGS__)
#define __shfl_xor(...) hip_shfl_xor(__VA_ARGS__)
#define __ballot(told) hip_ballot(told)
#define __any(told) hip_any(told)
#define __all(told) hip_all(told)
#define __builtin_amdgcn_wave_barrier() __syncwarp(__activemask())
#define __lane_id() ((threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % warpSize)
#endif

#define __shfl_sync(mask, ...) __shfl_sync(hip_mask(mask), __VA_ARGS__)
#define __shfl_up_sync(mask, ...) __shfl_up_sync(hip_mask(mask), __VA_ARGS__)
#define __shfl_down_sync(mask, ...) __shfl_down_sync(hip_mask(mask), __VA_ARGS__)
#define __shfl_xor_sync(mask, ...) __shfl_xor_sync(hip_mask(mask), __VA_ARGS__)
