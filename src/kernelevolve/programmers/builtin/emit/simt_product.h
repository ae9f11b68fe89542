// Products by tiles in shared memory. A policy P says what meets what: `enter(batch)`, `a(m, k)`,
// `b(k, n)` and `put(m, n, sum)`; operands are made while they are copied, results while written.
struct Tile { int64_t batch, m, n; };
template <int BM, int BN> IN Tile tile_of(int64_t number, int64_t M, int64_t N) {
  const int64_t across = (N + BN - 1) / BN, each = (M + BM - 1) / BM * across;
  const int64_t batch = quotient(number, each), rest = number - batch * each;
  const int64_t down = quotient(rest, across);
  return {batch, down * BM, (rest - down * across) * BN};
}
template <int BM, int BN> IN int64_t tiles(int64_t batches, int64_t M, int64_t N) {
  return batches * ((M + BM - 1) / BM) * ((N + BN - 1) / BN);
}

// 16 x 16 threads, each with BM/16 x BN/16 results in registers.
template <class S, int BM, int BN, int BK, bool A_ALONG_K, bool B_ALONG_N, class P>
IN void product(P &p, int64_t batches, int64_t M, int64_t N, int64_t K) {
  constexpr int EACH_M = BM / 16, EACH_N = BN / 16;
  __shared__ S as[BK][BM + 1], bs[BK][BN + 1];
  const int right = threadIdx.x % 16, down = threadIdx.x / 16;
  for (int64_t number = blockIdx.x; number < tiles<BM, BN>(batches, M, N); number += gridDim.x) {
    const Tile tile = tile_of<BM, BN>(number, M, N);
    p.enter(tile.batch);
    S sums[EACH_M][EACH_N] = {};
    for (int64_t from = 0; from < K; from += BK) {
      for (int e = threadIdx.x; e < BM * BK; e += 256) {
        const int k = A_ALONG_K ? e % BK : e / BM, m = A_ALONG_K ? e / BK : e % BM;
        as[k][m] = tile.m + m < M && from + k < K ? p.a(tile.m + m, from + k) : (S)0;
      }
      for (int e = threadIdx.x; e < BK * BN; e += 256) {
        const int k = B_ALONG_N ? e / BN : e % BK, n = B_ALONG_N ? e % BN : e / BK;
        bs[k][n] = tile.n + n < N && from + k < K ? p.b(from + k, tile.n + n) : (S)0;
      }
      __syncthreads();
#pragma unroll
      for (int k = 0; k < BK; k++) {
        S mine[EACH_M];
#pragma unroll
        for (int i = 0; i < EACH_M; i++) mine[i] = as[k][down + 16 * i];
#pragma unroll
        for (int j = 0; j < EACH_N; j++) {
          const S other = bs[k][right + 16 * j];
#pragma unroll
          for (int i = 0; i < EACH_M; i++) sums[i][j] += mine[i] * other;
        }
      }
      __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < EACH_M; i++)
#pragma unroll
      for (int j = 0; j < EACH_N; j++) {
        const int64_t m = tile.m + down + 16 * i, n = tile.n + right + 16 * j;
        if (m < M && n < N) p.put(m, n, sums[i][j]);
      }
  }
}
