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

// Four blocks of 8 x 8, as the lanes of a warp hold them: the second one below the first where
// DOWN, else to its right.
template <bool DOWN, class T> IN void blocks(unsigned (&to)[4], const T *at, int pitch) {
#ifdef SIMT_EMULATED
  const int lane = threadIdx.x % 32, row = lane / 4, column = lane % 4 * 2;
  for (int q = 0; q < 4; q++) {
    const int below = DOWN ? q % 2 : q / 2, right = DOWN ? q / 2 : q % 2;
    to[q] = *(const unsigned *)&at[(8 * below + row) * pitch + 8 * right + column];
  }
#else
  const int lane = threadIdx.x % 32, q = lane / 8;
  const int below = DOWN ? q % 2 : q / 2, right = DOWN ? q / 2 : q % 2;
  const T *row = &at[(8 * below + lane % 8) * pitch + 8 * right];
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"((unsigned)__cvta_generic_to_shared(row)) : "memory");
#endif
}

// Pieces of eight terms of a row. The threads of a block go along rows, or along terms, which are
// made one by one (MADE) or lie side by side in memory (READ).
enum Along { ACROSS, MADE, READ };
template <class T> struct __align__(16) Eight { T v[8]; };
template <class T, class F> IN Eight<T> eight(int64_t left, F term) {
  Eight<T> found;
#pragma unroll
  for (int i = 0; i < 8; i++) found.v[i] = i < left ? term(i) : narrow<T, float>(0.0f);
  return found;
}
template <class T> IN Eight<T> eight(const T *from, int64_t left) {
  if (left >= 8 && (unsigned long long)from % 16 == 0) return *(const Eight<T> *)from;
  return eight<T>(left, [&](int i) { return from[i]; });
}
template <int ROWS, int BK, Along ALONG> struct Pieces {
  static constexpr int COUNT = (ROWS * BK / 8 + 127) / 128, OWN = ALONG == ACROSS ? 1 : COUNT;
  IN static int number(int i) { return threadIdx.x + 128 * i; }
  IN static bool any(int i) { return ROWS * BK % 1024 == 0 || number(i) < ROWS * BK / 8; }
  IN static int row(int i) { return ALONG == ACROSS ? number(i) % ROWS : number(i) / (BK / 8); }
  IN static int term(int i) { return (ALONG == ACROSS ? number(i) / ROWS : number(i) % (BK / 8)) * 8; }
};

// The results of a warp; where memory is contiguous along m, eight columns at a time go through
// shared memory, so that neighbouring lanes write to neighbouring places.
template <int BM, int BN, bool ALONG_M, class P>
IN void put_all(P &p, const float (&sums)[BM / 32][BN / 16][4], int64_t top, int64_t left, int64_t M, int64_t N) {
  constexpr int HEIGHT = BM / 2, OWN = HEIGHT > 32 ? HEIGHT / 32 : 1;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, group = lane / 4, two = lane % 4 * 2;
  if constexpr (ALONG_M) {
    __shared__ float room[4][8][HEIGHT + 4];
    typename P::Row rows[OWN];
#pragma unroll
    for (int h = 0; h < OWN; h++) rows[h] = p.row(vmin(top + (lane + 32 * h) % HEIGHT, M - 1));
#pragma unroll
    for (int j = 0; j < BN / 16; j++) {
#pragma unroll
      for (int i = 0; i < BM / 32; i++)
#pragma unroll
        for (int r = 0; r < 4; r++)
          room[warp][two + r % 2][16 * i + group + r / 2 * 8] = sums[i][j][r];
      __syncwarp();
#pragma unroll
      for (int s = 0; s < HEIGHT / 4; s++) {
        const int m = (lane + 32 * s) % HEIGHT, n = (lane + 32 * s) / HEIGHT;
        if (top + m < M && left + 8 * j + n < N)
          p.put(rows[s % OWN], left + 8 * j + n, room[warp][n][m]);
      }
      __syncwarp();
    }
  } else {
#pragma unroll
    for (int i = 0; i < BM / 32; i++)
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const int64_t m = top + 16 * i + group + 8 * half;
        if (m >= M) continue;
        const auto row = p.row(m);
#pragma unroll
        for (int j = 0; j < BN / 16; j++)
#pragma unroll
          for (int r = 0; r < 2; r++) {
            const int64_t n = left + 8 * j + two + r;
            if (n < N) p.put(row, n, sums[i][j][2 * half + r]);
          }
      }
  }
}

// Four warps, two by two, each with BM/2 x BN/2 results. What the next step needs is on its way to
// registers while this one is multiplied.
template <class T, int BM, int BN, int BK, Along A, Along B, bool PUT_ALONG_M, class P>
IN void tensor_product(P &p, int64_t batches, int64_t M, int64_t N, int64_t taps, int64_t K) {
  constexpr int EACH_M = BM / 32, EACH_N = BN / 16, PITCH = BK + 8;
  typedef Pieces<BM, BK, A> Left;
  typedef Pieces<BN, BK, B> Right;
  __shared__ __align__(16) T as[BM][PITCH], bs[BN][PITCH];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int left = warp % 2 * (BN / 2), top = warp / 2 * (BM / 2);
  for (int64_t number = blockIdx.x; number < tiles<BM, BN>(batches, M, N); number += gridDim.x) {
    const Tile tile = tile_of<BM, BN>(number, M, N);
    p.enter(tile.batch);
    typename P::Row rows[Left::OWN];
#pragma unroll
    for (int i = 0; i < Left::OWN; i++) rows[i] = p.row(vmin(tile.m + Left::row(i), M - 1));
    Eight<T> lefts[Left::COUNT], rights[Right::COUNT];
    const auto fetch = [&](int64_t from) {
#pragma unroll
      for (int i = 0; i < Left::COUNT; i++) {
        const auto &row = rows[i % Left::OWN];
        const int64_t k = from + Left::term(i), count = tile.m + Left::row(i) < M ? K - k : 0;
        if constexpr (A == READ) {
          const T *at = p.a_at(row, k);
          if (Left::any(i)) lefts[i] = eight(at, at ? count : 0);
        } else {
          if (Left::any(i)) lefts[i] = eight<T>(count, [&](int j) { return p.a(row, k + j); });
        }
      }
#pragma unroll
      for (int i = 0; i < Right::COUNT; i++) {
        const int64_t n = tile.n + Right::row(i), k = from + Right::term(i), count = n < N ? K - k : 0;
        if constexpr (B == READ) {
          if (Right::any(i)) rights[i] = eight(p.b_at(k, n), count);
        } else {
          if (Right::any(i)) rights[i] = eight<T>(count, [&](int j) { return p.b(k + j, n); });
        }
      }
    };
    float sums[EACH_M][EACH_N][4] = {};
    int64_t from = 0, tap = 0;
    p.tap(0);
    fetch(0);
    while (from < K) {
#pragma unroll
      for (int i = 0; i < Left::COUNT; i++)
        if (Left::any(i)) *(Eight<T> *)&as[Left::row(i)][Left::term(i)] = lefts[i];
#pragma unroll
      for (int i = 0; i < Right::COUNT; i++)
        if (Right::any(i)) *(Eight<T> *)&bs[Right::row(i)][Right::term(i)] = rights[i];
      __syncthreads();
      if (++tap == taps) {
        tap = 0;
        from += BK;
      }
      if (from < K) {
        p.tap(tap);
        fetch(from);
      }
#pragma unroll
      for (int k = 0; k < BK; k += 16) {
        unsigned a[EACH_M][4], b[4];
#pragma unroll
        for (int i = 0; i < EACH_M; i++) blocks<true>(a[i], &as[top + 16 * i][k], PITCH);
#pragma unroll
        for (int j = 0; j < EACH_N; j += 2) {
          blocks<false>(b, &bs[left + 8 * j][k], PITCH);
#pragma unroll
          for (int i = 0; i < EACH_M; i++) {
            multiply<T>(sums[i][j], a[i], {b[0], b[1]});
            multiply<T>(sums[i][j + 1], a[i], {b[2], b[3]});
          }
        }
      }
      __syncthreads();
    }
    put_all<BM, BN, PUT_ALONG_M>(p, sums, tile.m + top, tile.n + left, M, N);
  }
}
