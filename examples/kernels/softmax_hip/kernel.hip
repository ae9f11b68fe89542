// Softmax of one row by each block of 256 threads.

#include <hip/hip_runtime.h>

#define LANES 64
#define WAVES 4
#define INFINITE __int_as_float(0x7f800000)

__device__ float all_of(float mine, float *parts, float (*fold)(float, float)) {
    for (int by = LANES / 2; by; by >>= 1) mine = fold(mine, __shfl_xor(mine, by));
    if (threadIdx.x % LANES == 0) parts[threadIdx.x / LANES] = mine;
    __syncthreads();
    float found = parts[0];
    for (int wave = 1; wave < WAVES; wave++) found = fold(found, parts[wave]);
    return found;
}

__device__ float larger(float a, float b) {
    return a > b || isnan(a) ? a : b;
}

__device__ float sum(float a, float b) {
    return a + b;
}

extern "C" __global__ void __launch_bounds__(LANES * WAVES)
softmax(const float *__restrict__ x, float *__restrict__ out, int width) {
    __shared__ float tops[WAVES], sums[WAVES];
    x += blockIdx.x * (long long)width;
    out += blockIdx.x * (long long)width;
    float top = -INFINITE, total = 0;
    for (int i = threadIdx.x; i < width; i += blockDim.x) top = larger(top, x[i]);
    top = all_of(top, tops, larger);
    for (int i = threadIdx.x; i < width; i += blockDim.x) total += expf(x[i] - top);
    total = all_of(total, sums, sum);
    for (int i = threadIdx.x; i < width; i += blockDim.x) out[i] = expf(x[i] - top) / total;
}
