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

// How the threads of a block go through an operand, eight terms of a row at a time: along rows or
// along terms, which are made one by one, or lie in memory with equal steps between them.
enum Way { MADE_ACROSS, MADE_ALONG, READ_ACROSS, READ_ALONG };
template <class T> struct __align__(16) Eight { T v[8]; };
struct __align__(16) Whole { unsigned v[4]; };  // stays as it was read until it is stored
template <class T, class F> IN Eight<T> eight(int left, F term) {
  Eight<T> found;
#pragma unroll
  for (int i = 0; i < 8; i++) found.v[i] = i < left ? term(i) : narrow<T, float>(0.0f);
  return found;
}
template <class T, class I> IN Eight<T> eight(const T *from, I step, int left) {
  Eight<T> found;
  if (left >= 8) {
#pragma unroll
    for (int i = 0; i < 8; i++, from += step) found.v[i] = *from;
    return found;
  }
  return eight<T>(left, [&](int i) { return from[i * step]; });
}
template <class T> IN Whole whole(const T *from, int left) {
  if (left >= 8 && (unsigned long long)from % 16 == 0) return *(const Whole *)from;
  const Eight<T> found = eight<T>(left, [&](int i) { return from[i]; });
  return *(const Whole *)&found;
}
template <class T, Way WAY> struct Held { typedef Eight<T> type; };
template <class T> struct Held<T, READ_ALONG> { typedef Whole type; };
template <int ROWS, int BK, int THREADS, Way WAY> struct Pieces {
  static constexpr int ALL = ROWS * BK / 8, COUNT = (ALL + THREADS - 1) / THREADS;
  static constexpr bool ALONG = WAY == MADE_ALONG || WAY == READ_ALONG;
  IN static int number(int i) { return threadIdx.x + THREADS * i; }
  IN static bool any(int i) { return ALL % THREADS == 0 || number(i) < ALL; }
  IN static int row(int i) { return ALONG ? number(i) / (BK / 8) : number(i) % ROWS; }
  IN static int term(int i) { return (ALONG ? number(i) % (BK / 8) : number(i) / ROWS) * 8; }
};

// The results of a warp, 32 x 8 * COLUMNS; where memory is contiguous along m, eight columns at a
// time go through shared memory, so that neighbouring lanes write to neighbouring places.
template <int WARPS, int COLUMNS, bool ALONG_M, class P, class I = typename P::Index>
IN void put_all(P &p, const float (&sums)[2][COLUMNS][4], I top, I left, I M, I N) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, group = lane / 4, two = lane % 4 * 2;
  const int width = (int)vmin(N - left, (I)(8 * COLUMNS));
  if constexpr (ALONG_M) {
    __shared__ float room[WARPS][8][36];
    const bool mine = top + lane < M;
    const auto row = p.row(mine ? top + lane : M - 1);
#pragma unroll
    for (int j = 0; j < COLUMNS; j++) {
#pragma unroll
      for (int i = 0; i < 2; i++)
#pragma unroll
        for (int r = 0; r < 4; r++)
          room[warp][two + r % 2][16 * i + group + r / 2 * 8] = sums[i][j][r];
      __syncwarp();
#pragma unroll
      for (int n = 0; n < 8; n++)
        if (mine && 8 * j + n < width) p.put(row, left + 8 * j + n, room[warp][n][lane]);
      __syncwarp();
    }
  } else {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const I m = top + group + 8 * i;
      if (m >= M) continue;
      const auto row = p.row(m);
#pragma unroll
      for (int j = 0; j < COLUMNS; j++)
#pragma unroll
        for (int r = 0; r < 2; r++)
          if (8 * j + two + r < width) p.put(row, left + 8 * j + two + r, sums[i / 2][j][i % 2 * 2 + r]);
    }
  }
}

// Pairs of warps, one below the other, each warp with 32 x BN/2 results. What the next step needs
// is on its way to registers while this one is multiplied.
template <class T, int BM, int BN, int BK, Way A, Way B, bool PUT_ALONG_M, class P>
IN void tensor_product(P &p, int64_t batches, int64_t M, int64_t N, int taps, int K) {
  constexpr int THREADS = 2 * BM, COLUMNS = BN / 16, PITCH = BK + 8;
  typedef Pieces<BM, BK, THREADS, A> Left;
  typedef Pieces<BN, BK, THREADS, B> Right;
  __shared__ __align__(16) T as[BM][PITCH], bs[BN][PITCH];
  const int warp = threadIdx.x / 32, left = warp % 2 * (BN / 2), top = warp / 2 * 32;
  const int steps = (K + BK - 1) / BK * taps;
  for (int64_t number = blockIdx.x; number < tiles<BM, BN>(batches, M, N); number += gridDim.x) {
    const Tile tile = tile_of<BM, BN>(number, M, N);
    p.enter(tile.batch);
    typename P::Row rows[Left::ALONG ? Left::COUNT : 1];
#pragma unroll
    for (int i = 0; i < (Left::ALONG ? Left::COUNT : 1); i++)
      rows[i] = p.row(vmin(tile.m + Left::row(i), M - 1));
    typename Held<T, A>::type lefts[Left::COUNT];
    typename Held<T, B>::type rights[Right::COUNT];
    int left_end[Left::COUNT], right_end[Right::COUNT];
#pragma unroll
    for (int i = 0; i < Left::COUNT; i++)
      left_end[i] = Left::any(i) && tile.m + Left::row(i) < M ? K - Left::term(i) : 0;
#pragma unroll
    for (int i = 0; i < Right::COUNT; i++)
      right_end[i] = Right::any(i) && tile.n + Right::row(i) < N ? K - Right::term(i) : 0;
    float sums[2][COLUMNS][4] = {};
    int from = 0, tap = 0;
    for (int step = 0; step <= steps; step++) {
      if (step > 0) {
#pragma unroll
        for (int i = 0; i < Left::COUNT; i++)
          if (Left::any(i)) *(typename Held<T, A>::type *)&as[Left::row(i)][Left::term(i)] = lefts[i];
#pragma unroll
        for (int i = 0; i < Right::COUNT; i++)
          if (Right::any(i)) *(typename Held<T, B>::type *)&bs[Right::row(i)][Right::term(i)] = rights[i];
      }
      __syncthreads();
      if (step < steps) {
        p.tap(tap);
#pragma unroll
        for (int i = 0; i < Left::COUNT; i++) {
          const int k = from + Left::term(i), count = left_end[i] - from;
          const auto &row = rows[Left::ALONG ? i : 0];
          if constexpr (A == READ_ALONG) lefts[i] = whole(p.a_at(row, k), p.a_in(row, k) ? count : 0);
          else if constexpr (A == READ_ACROSS)
            lefts[i] = eight(p.a_at(row, k), p.a_step(), p.a_in(row, k) ? count : 0);
          else lefts[i] = eight<T>(count, [&](int j) { return p.a(row, k + j); });
        }
#pragma unroll
        for (int i = 0; i < Right::COUNT; i++) {
          const int k = from + Right::term(i), count = right_end[i] - from;
          const typename P::Index n = tile.n + Right::row(i);
          if constexpr (B == READ_ALONG) rights[i] = whole(p.b_at(k, n), count);
          else if constexpr (B == READ_ACROSS) rights[i] = eight(p.b_at(k, n), p.b_step(), count);
          else rights[i] = eight<T>(count, [&](int j) { return p.b(k + j, n); });
        }
        if (++tap == taps) {
          tap = 0;
          from += BK;
        }
      }
      if (step > 0) {
#pragma unroll
        for (int k = 0; k < BK; k += 16) {
          unsigned a[2][4], b[4];
          blocks<true>(a[0], &as[top][k], PITCH);
          blocks<true>(a[1], &as[top + 16][k], PITCH);
#pragma unroll
          for (int j = 0; j < COLUMNS; j += 2) {
            blocks<false>(b, &bs[left + 8 * j][k], PITCH);
#pragma unroll
            for (int i = 0; i < 2; i++) {
              multiply<T>(sums[i][j], a[i], {b[0], b[1]});
              multiply<T>(sums[i][j + 1], a[i], {b[2], b[3]});
            }
          }
        }
      }
      __syncthreads();
    }
    put_all<THREADS / 32, COLUMNS, PUT_ALONG_M>(p, sums, tile.m + top, tile.n + left, M, N);
  }
}
