// Contraction out[b, m, n] = finish(sum over k of A[b, m, k] * B[b, k, n]): packed, blocked and register-tiled.
// A generated policy P says what A, B and the output are; this file says how they meet. After vectors.h, math.h.
// A vector hook with FULL = false touches `lanes` elements only; what the other lanes hold does not matter.
#define UNROLLED _Pragma("GCC unroll 32")
#define APART static __attribute__((noinline, noclone))
extern "C" void* aligned_alloc(usize, usize);
extern "C" void free(void*);
IN int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
IN int64_t round_up(int64_t a, int64_t to) { return (a + to - 1) / to * to; }
IN int64_t pitch_of(int64_t count) { return (count | 31) + 1 + 16; }  // an odd number of 64-byte lines of floats

constexpr int64_t PER_PRODUCT = 20;  // picoseconds, roughly

// Memory of this thread that lives from call to call, one piece per slot.
struct Piece { void* at; usize bytes; };
static thread_local Piece pieces[24];
template <class T> IN T* scratch(int slot, int64_t count) {
  Piece& piece = pieces[slot];
  const usize bytes = (usize)round_up(count * (int64_t)sizeof(T) + 256, 4096);
  if (piece.bytes < bytes) {
    free(piece.at);
    piece.at = aligned_alloc(4096, bytes);
    piece.bytes = bytes;
  }
  return (T*)piece.at;
}
enum { ROWS_OF_A, END_OF_B, PANELS_OF_B, FREE_SLOT };

// A W x W block, in registers: log2(W) rounds of two-source shuffles.
template <class V> IN void transpose(V* r) {
  typedef typename Traits<V>::bits M;
  UNROLLED for (int s = 1; s < W; s *= 2) {
    M lo, hi;
    UNROLLED for (int e = 0; e < W; ++e) {
      lo[e] = (e & s) ? W + e - s : e;
      hi[e] = (e & s) ? W + e : e + s;
    }
    UNROLLED for (int i = 0; i < W; ++i)
      if (!(i & s)) {
        const V a = r[i], b = r[i | s];
        r[i] = __builtin_shuffle(a, b, lo);
        r[i | s] = __builtin_shuffle(a, b, hi);
      }
  }
}

// A block of A: rows `step` apart with contiguous k, or (transposed) columns `step` apart.
template <class T> struct Left { const T* at; int64_t step; };
// A strip of B: contiguous columns, rows `step` apart.
template <class T> struct Right { const T* at; int64_t step; };
// Where a tile lands, and whether it starts and ends the sum over k.
struct Place { int64_t batch, m, n; int width; bool first, last; };

// Tiles meet memory through a small buffer, so that an epilogue is compiled once for all tile shapes.
template <class P> APART void finish_tile(const P& p, Place at, int rows, const typename P::T* sums) {
  for (int i = 0; i < rows; ++i, ++at.m, sums += P::NR) {
    int j = 0;
    for (; j + W <= at.width; j += W) p.template finish<true>(at.batch, at.m, at.n + j, W, ld(sums + j));
    if (j < at.width) p.template finish<false>(at.batch, at.m, at.n + j, at.width - j, ld(sums + j));
  }
}
template <class P> APART void save_tile(const P& p, Place at, int rows, const typename P::T* sums) {
  for (int i = 0; i < rows; ++i, ++at.m, sums += P::NR) __builtin_memcpy(p.partial(at.batch, at.m, at.n), sums, at.width * sizeof *sums);
}
template <class P> APART void resume_tile(const P& p, Place at, int rows, typename P::T* sums) {
  for (int i = 0; i < rows; ++i, ++at.m, sums += P::NR) __builtin_memcpy(sums, p.partial(at.batch, at.m, at.n), at.width * sizeof *sums);
}

template <class P, int MR, int NV>
IN void multiply(typename P::V (&c)[MR][NV], const typename P::T* a, int64_t am, const typename P::T* b) {
  typename P::V row[NV];
  UNROLLED for (int j = 0; j < NV; ++j) row[j] = raw(b + j * W);
  UNROLLED for (int i = 0; i < MR; ++i) {
    const typename P::T x = a[i * am];
    UNROLLED for (int j = 0; j < NV; ++j) c[i][j] += x * row[j];
  }
}

constexpr int64_t CHAIN = 256;  // products added one to another, before the sum joins a total

// One register tile of MR x NV vectors. Small ones keep several sums so that their chains overlap.
template <class P, int MR, int NV>
APART void tile(const P& p, Left<typename P::T> a, Right<typename P::T> b, int64_t depth, Place at) {
  constexpr int SUMS = MR * NV >= 8 ? 1 : MR * NV >= 4 ? 2 : 4, STEP = SUMS > P::UNROLL ? SUMS : P::UNROLL / SUMS * SUMS;
  if (P::PACK_A && P::A_ROWS && P::KC) a.step = P::KC + 16;
  if (P::PACK_B) b.step = P::NR;
  const int64_t am = P::A_ROWS ? a.step : 1, ak = P::A_ROWS ? 1 : a.step;
  typename P::V c[SUMS][MR][NV];
  alignas(64) typename P::T sums[MR][P::NR];
  const bool whole = at.width == NV * W;
  UNROLLED for (int s = 0; s < SUMS; ++s)
    UNROLLED for (int i = 0; i < MR; ++i)
      UNROLLED for (int j = 0; j < NV; ++j) c[s][i][j] = typename P::V{};
  int64_t k = 0;
  alignas(64) typename P::V totals[MR][NV] = {};
  const bool parts = depth > CHAIN;
  for (int64_t stop = parts ? CHAIN : depth;; stop = stop + CHAIN < depth ? stop + CHAIN : depth) {
    for (; k + STEP <= stop; k += STEP)
      UNROLLED for (int s = 0; s < STEP; ++s) {
        if (P::PREFETCH) __builtin_prefetch(b.at + (k + s + P::PREFETCH) * b.step);
        multiply<P, MR, NV>(c[s % SUMS], a.at + (k + s) * ak, am, b.at + (k + s) * b.step);
      }
    if (stop >= depth) break;
    UNROLLED for (int s = 0; s < SUMS; ++s)
      UNROLLED for (int i = 0; i < MR; ++i)
        UNROLLED for (int j = 0; j < NV; ++j) totals[i][j] += c[s][i][j], c[s][i][j] = typename P::V{};
  }
  if (STEP > 1)
    for (; k < depth; ++k) multiply<P, MR, NV>(c[0], a.at + k * ak, am, b.at + k * b.step);
  UNROLLED for (int s = 1; s < SUMS; ++s)
    UNROLLED for (int i = 0; i < MR; ++i)
      UNROLLED for (int j = 0; j < NV; ++j) c[0][i][j] += c[s][i][j];
  if (parts)
    UNROLLED for (int i = 0; i < MR; ++i)
      UNROLLED for (int j = 0; j < NV; ++j) c[0][i][j] += totals[i][j];
  if constexpr (P::KC != 0)
    if (!at.first) {
      if (!whole) resume_tile(p, at, MR, sums[0]);
      UNROLLED for (int i = 0; i < MR; ++i)
        UNROLLED for (int j = 0; j < NV; ++j) c[0][i][j] += raw(whole ? p.partial(at.batch, at.m + i, at.n) + j * W : sums[i] + j * W);
    }
  if constexpr (P::KC != 0 || P::PLAIN)
    if (whole && (P::PLAIN || !at.last)) {
      UNROLLED for (int i = 0; i < MR; ++i)
        UNROLLED for (int j = 0; j < NV; ++j) st(p.partial(at.batch, at.m + i, at.n) + j * W, c[0][i][j]);
      return;
    }
  UNROLLED for (int i = 0; i < MR; ++i)
    UNROLLED for (int j = 0; j < NV; ++j) st(sums[i] + j * W, c[0][i][j]);
  if constexpr (P::KC != 0)
    if (!at.last) return save_tile(p, at, MR, sums[0]);
  finish_tile(p, at, MR, sums[0]);
}

// The next lower tile or narrower strip for what is left: a few shapes, each compiled once.
constexpr int lower(int rows) { return rows > 4 ? rows / 2 : 1; }

template <class P, int MR, int NV>
IN void tiles(const P& p, Left<typename P::T> a, Right<typename P::T> b, int64_t end, int64_t depth, Place at) {
  for (; at.m + MR <= end; at.m += MR, a.at += MR * (P::A_ROWS ? a.step : 1)) tile<P, MR, NV>(p, a, b, depth, at);
  if constexpr (MR > 1)
    if (at.m < end) tiles<P, lower(MR), NV>(p, a, b, end, depth, at);
}

// Columns [at.n, at.n + at.width) down `rows` rows, in strips of NV vectors and narrower ones.
template <class P, int NV>
static void strips(const P& p, Left<typename P::T> a, Right<typename P::T> b, int64_t rows, int64_t depth, Place at) {
  const int64_t end = at.m + rows;
  int left = at.width;
  for (; left > (NV - 1) * W; left -= NV * W, at.n += NV * W, b.at += NV * W) {
    at.width = (int)least(left, NV * W);
    tiles<P, P::MR, NV>(p, a, b, end, depth, at);
  }
  at.width = left;
  if constexpr (NV > 1 && !(P::FIXED_N && P::FIXED_N % P::NR == 0))
    if (left > 0) strips<P, NV / 2>(p, a, b, rows, depth, at);
}

// A[m .. m + rows, k .. k + depth] with its prologue applied, in the order it is read in memory.
template <class P>
static Left<typename P::T> pack_a(const P& p, int64_t batch, int64_t m, int64_t rows, int64_t k, int64_t depth) {
  const int64_t lines = P::A_ROWS ? rows : depth, length = P::A_ROWS ? depth : rows;
  const int64_t pitch = P::A_ROWS && P::KC ? P::KC + 16 : pitch_of(length);
  typename P::T* to = scratch<typename P::T>(ROWS_OF_A, lines * pitch + W);
  for (int64_t i = 0; i < lines; ++i) {
    typename P::T* line = to + i * pitch;
    const int64_t row = P::A_ROWS ? m + i : m, column = P::A_ROWS ? k : k + i;
    int64_t q = 0;
    for (; q + W <= length; q += W)
      st(line + q, p.template take_a<true>(batch, row + (P::A_ROWS ? 0 : q), column + (P::A_ROWS ? q : 0), W));
    if (q < length)
      st(line + q, p.template take_a<false>(batch, row + (P::A_ROWS ? 0 : q), column + (P::A_ROWS ? q : 0), (int)(length - q)));
  }
  return {to, pitch};
}

template <class P, int NR> IN void pack_rows(const P& p, int64_t batch, int64_t k, int64_t depth, int64_t n, int width, typename P::T* to) {
  for (int64_t i = 0; i < depth; ++i, to += NR) {
    if (width == NR) {
      UNROLLED for (int q = 0; q < NR; q += W) st(to + q, p.template take_b<true>(batch, k + i, n + q, W));
      continue;
    }
    int q = 0;
    for (; q + W <= width; q += W) st(to + q, p.template take_b<true>(batch, k + i, n + q, W));
    if (q < width) st(to + q, p.template take_b<false>(batch, k + i, n + q, width - q));
  }
}

template <class P, int NR> IN void pack_columns(const P& p, int64_t batch, int64_t n, int width, typename P::T* to) {
  const int64_t K = p.K();
  for (int q = 0; q < width; q += W)
    for (int64_t k = 0; k < K; k += W) {
      typename P::V r[W];
      const int depth = (int)least(W, K - k), columns = (int)least(W, width - q);
      if (depth == W && columns == W) {
        UNROLLED for (int c = 0; c < W; ++c) r[c] = p.template take_b<true>(batch, k, n + q + c, W);
      } else {
        for (int c = 0; c < W; ++c) r[c] = p.template take_b<false>(batch, k, n + q + least(c, columns - 1), depth);
      }
      transpose(r);
      if (depth == W) {
        UNROLLED for (int e = 0; e < W; ++e) st(to + (k + e) * NR + q, r[e]);
      } else {
        for (int e = 0; e < depth; ++e) st(to + (k + e) * NR + q, r[e]);
      }
    }
}

// B's columns [n, end) with the prologue applied, as panels [panel][k][NR].
template <class P> static void pack_b(const P& p, int64_t batch, int64_t n, int64_t end, typename P::T* to) {
  for (; n < end; n += P::NR, to += p.K() * P::NR) {
    const int width = (int)least(P::NR, end - n);
    if (P::B_ROWS) pack_rows<P, P::NR>(p, batch, 0, p.K(), n, width, to);
    else pack_columns<P, P::NR>(p, batch, n, width, to);
  }
}
template <class P> IN int64_t packed_size(const P& p, int64_t columns) { return round_up(columns, P::NR) * p.K() + W; }

// One block of A against `columns` columns of B, `at` being their corner.
template <class P>
static void block(const P& p, int64_t rows, int64_t columns, int64_t k, int64_t depth, const typename P::T* panels, Place at) {
  typedef typename P::T T;
  Left<T> a;
  if constexpr (P::PACK_A) a = pack_a(p, at.batch, at.m, rows, k, depth);
  else a = Left<T>{p.a_at(at.batch, at.m, k), p.a_step()};
  for (const int64_t end = at.n + columns; at.n < end; at.n += P::NR) {
    at.width = (int)least(P::NR, end - at.n);
    if constexpr (P::PACK_B) {
      strips<P, P::NV>(p, a, {panels + k * P::NR, P::NR}, rows, depth, at);
      panels += p.K() * P::NR;
    } else {
      const int ragged = at.width % W, whole = at.width - ragged;
      Place part = at;
      part.width = whole;
      if (whole) strips<P, P::NV>(p, a, {p.b_at(at.batch, k, at.n), p.b_step()}, rows, depth, part);
      if (!ragged) continue;
      T* to = scratch<T>(END_OF_B, depth * W);
      pack_rows<P, W>(p, at.batch, k, depth, at.n + whole, ragged, to);
      part.n += whole;
      part.width = ragged;
      strips<P, 1>(p, a, {to, W}, rows, depth, part);
    }
  }
}

struct Part { int64_t b0, b1, m0, m1, n0, n1; };

// One batch element; `panels` starts at column part.n0.
template <class P> static void product(const P& p, int64_t batch, Part part, const typename P::T* panels) {
  const int64_t K = p.K(), kc = P::KC ? (int64_t)P::KC : K ? K : 1;
  const int64_t mc = P::MC ? (int64_t)P::MC : part.m1 - part.m0, nc = P::NC ? (int64_t)P::NC : part.n1 - part.n0;
  for (int64_t n = part.n0; n < part.n1; n += nc)
    for (int64_t k = 0; k == 0 || k < K; k += kc)
      for (int64_t m = part.m0; m < part.m1; m += mc)
        block(p, least(mc, part.m1 - m), least(nc, part.n1 - n), k, least(kc, K - k), panels + (n - part.n0) * K,
              Place{batch, m, n, 0, k == 0, k + kc >= K});
}

// DM rows of A dotted with columns of B along their contiguous k: B is read once and never packed.
template <class P, int DM> static void dot_rows(const P& p, Left<typename P::T> a, int64_t batch, int64_t m, int64_t n0, int64_t n1) {
  typedef typename P::T T;
  typedef typename P::V V;
  constexpr int DN = P::MR;
  const int64_t K = p.K(), whole = K / W * W;
  for (int64_t n = n0; n < n1; n += W) {
    alignas(64) T sums[DM][P::NR];
    const int width = (int)least(W, n1 - n);
    for (int q = 0; q < width; q += DN) {
      V c[DM][DN], left[DM][DN];
      const T* b[DN];
      UNROLLED for (int j = 0; j < DN; ++j) b[j] = p.b_at(batch, 0, n + least(q + j, width - 1));
      UNROLLED for (int i = 0; i < DM; ++i)
        UNROLLED for (int j = 0; j < DN; ++j) c[i][j] = V{};
      for (int64_t k = 0; k < whole; k += W) {
        V x[DM];
        UNROLLED for (int i = 0; i < DM; ++i) x[i] = raw(a.at + i * a.step + k);
        UNROLLED for (int j = 0; j < DN; ++j) {
          if (P::PREFETCH) __builtin_prefetch(b[j] + k + P::PREFETCH * W);
          const V y = raw(b[j] + k);
          UNROLLED for (int i = 0; i < DM; ++i) c[i][j] += x[i] * y;
        }
      }
      UNROLLED for (int i = 0; i < DM; ++i)
        UNROLLED for (int j = 0; j < DN; ++j) left[i][j] = c[i][j];
      for (int i = 0; i < DM; ++i)
        for (int j = 0; j < DN && q + j < W; ++j) {
          T sum = fold(left[i][j], [](T x, T y) { return x + y; });
          for (int64_t k = whole; k < K; ++k) sum += a.at[i * a.step + k] * b[j][k];
          sums[i][q + j] = sum;
        }
    }
    finish_tile(p, Place{batch, m, n, width, true, true}, DM, sums[0]);
  }
}

template <class P> static void dots(const P& p, int64_t batch, Part part) {
  Left<typename P::T> a;
  if constexpr (P::PACK_A) a = pack_a(p, batch, part.m0, part.m1 - part.m0, 0, p.K());
  else a = Left<typename P::T>{p.a_at(batch, part.m0, 0), p.a_step()};
  int64_t m = part.m0;
#define ROWS(H) for (; m + (H) <= part.m1; m += (H), a.at += (H) * a.step) dot_rows<P, (H)>(p, a, batch, m, part.n0, part.n1);
  ROWS(4) ROWS(2) ROWS(1)
#undef ROWS
}

template <class P> static void serial(const P& p, Part part, const typename P::T* ready) {
  if constexpr (P::DOT) {
    for (int64_t batch = part.b0; batch < part.b1; ++batch) dots(p, batch, part);
  } else {
    typename P::T* own = 0;
    if constexpr (P::PACK_B)
      if (!ready) own = scratch<typename P::T>(PANELS_OF_B, packed_size(p, part.n1 - part.n0));
    for (int64_t batch = part.b0; batch < part.b1; ++batch) {
      if (own && (batch == part.b0 || !P::B_SHARED)) pack_b(p, batch, part.n0, part.n1, own);
      product(p, batch, part, own ? own : ready + part.n0 * p.K());
    }
  }
}

// Cuts the batch, or else the longer of rows and columns; every part packs for itself.
template <class P> static Part part_of(const P& p, int64_t at, int64_t parts) {
  Part part = {0, p.batch(), 0, p.M(), 0, p.N()};
  const int64_t rows = round_up((p.M() + parts - 1) / parts, P::MR), columns = round_up((p.N() + parts - 1) / parts, P::NR);
  if (p.batch() >= parts) {
    part.b0 = p.batch() * at / parts;
    part.b1 = p.batch() * (at + 1) / parts;
  } else if (p.M() >= p.N()) {
    part.m0 = least(rows * at, p.M());
    part.m1 = least(rows * (at + 1), p.M());
  } else {
    part.n0 = least(columns * at, p.N());
    part.n1 = least(columns * (at + 1), p.N());
  }
  return part;
}

// The same for a chain, whose rows go in blocks and whose columns stay together.
static inline Part rows_part(int64_t batch, int64_t rows, int64_t block, int64_t at, int64_t parts) {
  if (batch >= parts) return {batch * at / parts, batch * (at + 1) / parts, 0, rows, 0, 0};
  const int64_t share = round_up((rows + parts - 1) / parts, least(block, 8));
  return {0, batch, least(share * at, rows), least(share * (at + 1), rows), 0, 0};
}

template <class P> static void contract(const P& p, const typename P::T* ready) {
  if (!P::PARALLEL) return serial(p, Part{0, p.batch(), 0, p.M(), 0, p.N()}, ready);
  const int64_t parts = workers(p.batch() * p.M() * p.N() * p.K() * PER_PRODUCT);
#pragma omp parallel for schedule(static, 1) num_threads((int)parts)
  for (int64_t at = 0; at < parts; ++at) serial(p, part_of(p, at, parts), ready);
}
