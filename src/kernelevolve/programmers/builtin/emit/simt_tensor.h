// Products on tensor cores, behind simt_product.h.
// sums += a * b for a warp: 16 x 16 by 16 x 8, laid over the lanes as the PTX manual says of
// mma.sync.m16n8k16 (row, col).
template <class T> struct Tensor;
#ifdef SIMT_EMULATED
template <class T> IN float part(unsigned both, int which) {
  const unsigned short bits = (unsigned short)(which ? both >> 16 : both);
  T value;
  memcpy(&value, &bits, 2);
  return widen(value);
}
template <class T> IN void multiply(float (&sums)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  const int lane = threadIdx.x % 32, group = lane / 4, four = lane % 4;
  for (int q = 0; q < 4; q++)
    for (int half = 0; half < 2; half++) {
      const unsigned upper = __shfl_sync(WHOLE_WARP, a[2 * half], group * 4 + q);
      const unsigned lower = __shfl_sync(WHOLE_WARP, a[2 * half + 1], group * 4 + q);
      for (int j = 0; j < 2; j++) {
        const unsigned right = __shfl_sync(WHOLE_WARP, b[half], (2 * four + j) * 4 + q);
        for (int odd = 0; odd < 2; odd++) {
          sums[j] += part<T>(upper, odd) * part<T>(right, odd);
          sums[2 + j] += part<T>(lower, odd) * part<T>(right, odd);
        }
      }
    }
}
#else
#define MULTIPLY(type, text)                                                                       \
  template <> struct Tensor<type> {                                                                \
    static IN void multiply(float (&s)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {       \
      asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." text "." text ".f32 "                  \
                   "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"                         \
                   : "+f"(s[0]), "+f"(s[1]), "+f"(s[2]), "+f"(s[3])                                \
                   : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));            \
    }                                                                                              \
  };
MULTIPLY(f16_t, "f16")
MULTIPLY(bf16_t, "bf16")
template <class T> IN void multiply(float (&sums)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  Tensor<T>::multiply(sums, a, b);
}
#endif

// Four warps, two by two, each with BM/2 x BN/2 results.
template <class T, int BM, int BN, int BK, bool A_ALONG_K, bool B_ALONG_N, class P>
IN void tensor_product(P &p, int64_t batches, int64_t M, int64_t N, int64_t K) {
  constexpr int EACH_M = BM / 32, EACH_N = BN / 16, PITCH = BK + 8;
  __shared__ __align__(16) T as[BM][PITCH], bs[BN][PITCH];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, group = lane / 4, two = lane % 4 * 2;
  const int left = warp % 2 * (BN / 2), top = warp / 2 * (BM / 2);
  const T zero = narrow<T, float>(0.0f);
  for (int64_t number = blockIdx.x; number < tiles<BM, BN>(batches, M, N); number += gridDim.x) {
    const Tile tile = tile_of<BM, BN>(number, M, N);
    p.enter(tile.batch);
    float sums[EACH_M][EACH_N][4] = {};
    for (int64_t from = 0; from < K; from += BK) {
      for (int e = threadIdx.x; e < BM * BK; e += 128) {
        const int k = A_ALONG_K ? e % BK : e / BM, m = A_ALONG_K ? e / BK : e % BM;
        as[m][k] = tile.m + m < M && from + k < K ? p.a(tile.m + m, from + k) : zero;
      }
      for (int e = threadIdx.x; e < BK * BN; e += 128) {
        const int k = B_ALONG_N ? e / BN : e % BK, n = B_ALONG_N ? e % BN : e / BK;
        bs[n][k] = tile.n + n < N && from + k < K ? p.b(from + k, tile.n + n) : zero;
      }
      __syncthreads();
#pragma unroll
      for (int k = 0; k < BK; k += 16) {
        unsigned a[EACH_M][4];
#pragma unroll
        for (int i = 0; i < EACH_M; i++)
#pragma unroll
          for (int r = 0; r < 4; r++)
            a[i][r] = *(const unsigned *)&as[top + 16 * i + group + r % 2 * 8][k + two + r / 2 * 8];
#pragma unroll
        for (int j = 0; j < EACH_N; j++) {
          unsigned b[2];
#pragma unroll
          for (int r = 0; r < 2; r++) b[r] = *(const unsigned *)&bs[left + 8 * j + group][k + two + r * 8];
#pragma unroll
          for (int i = 0; i < EACH_M; i++) multiply<T>(sums[i][j], a[i], b);
        }
      }
      __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < EACH_M; i++)
#pragma unroll
      for (int j = 0; j < EACH_N; j++)
#pragma unroll
        for (int r = 0; r < 4; r++) {
          const int64_t m = tile.m + top + 16 * i + group + r / 2 * 8;
          const int64_t n = tile.n + left + 8 * j + two + r % 2;
          if (m < M && n < N) p.put(m, n, sums[i][j][r]);
        }
  }
}
