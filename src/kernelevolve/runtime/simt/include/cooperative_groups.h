// Groups of threads, for kernels that run on the processor: a block, and tiles of a warp.
#pragma once

namespace cooperative_groups {

struct thread_block {
  static unsigned size() { return blockDim.x * blockDim.y * blockDim.z; }
  static unsigned num_threads() { return size(); }
  static unsigned thread_rank() {
    return threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  }
  static dim3 group_index() { return {blockIdx.x, blockIdx.y, blockIdx.z}; }
  static dim3 thread_index() { return {threadIdx.x, threadIdx.y, threadIdx.z}; }
  static dim3 group_dim() { return {blockDim.x, blockDim.y, blockDim.z}; }
  __forceinline__ static void sync() { __syncthreads(); }
};
inline thread_block this_thread_block() { return {}; }

template <unsigned SIZE, class Parent = void>
struct thread_block_tile {
  static_assert(SIZE <= SIMT_WARP && (SIZE & (SIZE - 1)) == 0, "a tile is a part of a warp");
  static unsigned size() { return SIZE; }
  static unsigned num_threads() { return SIZE; }
  static unsigned thread_rank() { return thread_block::thread_rank() % SIZE; }
  static unsigned meta_group_rank() { return thread_block::thread_rank() / SIZE; }
  static unsigned meta_group_size() { return (thread_block::size() + SIZE - 1) / SIZE; }
  static uint64_t mask() {
    uint64_t all = SIZE == 64 ? ~0ull : (1ull << SIZE) - 1;
    return all << (simt::lane() / SIZE * SIZE);
  }
  __forceinline__ static void sync() { simt_warp(mask(), 0, 0, 0); }
  template <class T> __forceinline__ T shfl(T v, int from) const { return __shfl_sync(mask(), v, from, SIZE); }
  template <class T> __forceinline__ T shfl_down(T v, unsigned by) const { return __shfl_down_sync(mask(), v, by, SIZE); }
  template <class T> __forceinline__ T shfl_up(T v, unsigned by) const { return __shfl_up_sync(mask(), v, by, SIZE); }
  template <class T> __forceinline__ T shfl_xor(T v, int by) const { return __shfl_xor_sync(mask(), v, by, SIZE); }
  __forceinline__ unsigned ballot(int told) const {
    return unsigned(simt_ballot(mask(), told != 0) >> (simt::lane() / SIZE * SIZE));
  }
  __forceinline__ int any(int told) const { return simt_ballot(mask(), told != 0) != 0; }
  __forceinline__ int all(int told) const { return simt_ballot(mask(), told == 0) == 0; }
};
template <unsigned SIZE, class Parent>
inline thread_block_tile<SIZE, Parent> tiled_partition(const Parent&) { return {}; }
template <class Group> __forceinline__ void sync(const Group& group) { group.sync(); }

template <class T> struct plus { T operator()(T a, T b) const { return a + b; } };
template <class T> struct less { T operator()(T a, T b) const { return b < a ? b : a; } };
template <class T> struct greater { T operator()(T a, T b) const { return a < b ? b : a; } };
template <class T> struct bit_and { T operator()(T a, T b) const { return a & b; } };
template <class T> struct bit_or { T operator()(T a, T b) const { return a | b; } };
template <class T> struct bit_xor { T operator()(T a, T b) const { return a ^ b; } };
template <unsigned SIZE, class Parent, class T, class Op>
__forceinline__ T reduce(const thread_block_tile<SIZE, Parent>& tile, T v, Op op) {
  for (unsigned by = SIZE / 2; by; by /= 2) v = op(v, tile.shfl_xor(v, by));
  return v;
}

}  // namespace cooperative_groups
