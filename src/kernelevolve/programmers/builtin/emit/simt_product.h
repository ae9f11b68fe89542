// Products by tiles in shared memory. A policy P says what meets what: `enter(batch)`, `tap(tap)`,
// `row(m)`, `a(row, k)`, `b(k, n)` and `put(row, n, sum)`; operands are made while they are copied,
// results while written. Terms are `taps` times K; of all but convolutions, there is one tap.
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
template <class S, int BM, int BN, int BK, bool A_ALONG_K, bool B_ALONG_N, bool PUT_ALONG_M, class P>
IN void product(P &p, int64_t batches, int64_t M, int64_t N, int64_t taps, int64_t K) {
  constexpr int EACH_M = BM / 16, EACH_N = BN / 16;
  __shared__ S as[BK][BM + 1], bs[BK][BN + 1];
  const int near = threadIdx.x % 16, far = threadIdx.x / 16;
  const int right = PUT_ALONG_M ? far : near, down = PUT_ALONG_M ? near : far;
  for (int64_t number = blockIdx.x; number < tiles<BM, BN>(batches, M, N); number += gridDim.x) {
    const Tile tile = tile_of<BM, BN>(number, M, N);
    p.enter(tile.batch);
    const auto own = p.row(vmin(tile.m + threadIdx.x % BM, M - 1));
    S sums[EACH_M][EACH_N] = {};
    for (int64_t from = 0; from < K; from += BK)
      for (int64_t tap = 0; tap < taps; tap++) {
        p.tap(tap);
        for (int e = threadIdx.x; e < BM * BK; e += 256) {
          const int k = A_ALONG_K ? e % BK : e / BM, m = A_ALONG_K ? e / BK : e % BM;
          const bool inside = tile.m + m < M && from + k < K;
          as[k][m] = inside ? p.a(A_ALONG_K ? p.row(tile.m + m) : own, from + k) : (S)0;
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
    for (int i = 0; i < EACH_M; i++) {
      const int64_t m = tile.m + down + 16 * i;
      if (m >= M) continue;
      const auto row = p.row(m);
#pragma unroll
      for (int j = 0; j < EACH_N; j++) {
        const int64_t n = tile.n + right + 16 * j;
        if (n < N) p.put(row, n, sums[i][j]);
      }
    }
  }
}
