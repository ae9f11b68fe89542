// Softmax of one row by each block of 256 threads.

#define WARPS 8
#define INFINITE __int_as_float(0x7f800000)

__device__ float all_of(float mine, float *parts, float (*fold)(float, float)) {
    for (int by = 16; by; by >>= 1) mine = fold(mine, __shfl_xor_sync(0xffffffff, mine, by));
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = mine;
    __syncthreads();
    float found = parts[0];
    for (int warp = 1; warp < WARPS; warp++) found = fold(found, parts[warp]);
    return found;
}

__device__ float larger(float a, float b) {
    return a > b || isnan(a) ? a : b;
}

__device__ float sum(float a, float b) {
    return a + b;
}

extern "C" __global__ void __launch_bounds__(32 * WARPS)
softmax(const float *__restrict__ x, float *__restrict__ out, int width) {
    __shared__ float tops[WARPS], sums[WARPS];
    x += blockIdx.x * (long long)width;
    out += blockIdx.x * (long long)width;
    float top = -INFINITE, total = 0;
    for (int i = threadIdx.x; i < width; i += blockDim.x) top = larger(top, x[i]);
    top = all_of(top, tops, larger);
    for (int i = threadIdx.x; i < width; i += blockDim.x) total += expf(x[i] - top);
    total = all_of(total, sums, sum);
    for (int i = threadIdx.x; i < width; i += blockDim.x) out[i] = expf(x[i] - top) / total;
}
