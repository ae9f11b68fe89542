// What commands do to the bytes in local memory, with no notion of time.
#pragma once
#include <algorithm>
#include <cmath>
#include <vector>

#include "mtia.h"

namespace work {

using mtia::Op;
constexpr int64_t CHUNK = 512;
constexpr uint32_t TABLE_ROUNDING = 1u << 11;  // keeps 12 significant bits of a float's 24

inline int64_t size_of(mtia_type type) {
  constexpr int64_t sizes[] = {4, 2, 2, 1, 4, 8};
  return sizes[type];
}

inline bool whole(mtia_type type) { return type >= MTIA_I8; }

template <class F> void typed(mtia_type type, const F& use) {
  switch (type) {
    case MTIA_F32: return use(float{});
    case MTIA_F16: return use(mtia::half{});
    case MTIA_BF16: return use(mtia::bfloat{});
    case MTIA_I8: return use(int8_t{});
    case MTIA_I32: return use(int32_t{});
    case MTIA_I64: return use(int64_t{});
  }
}

template <class V> void load(mtia_type type, const char* from, int64_t first, int64_t n, V* to) {
  typed(type, [&](auto kind) {
    auto source = reinterpret_cast<const decltype(kind)*>(from) + first;
    for (int64_t i = 0; i < n; i++) to[i] = V(source[i]);
  });
}

template <class V> void store(mtia_type type, char* to, int64_t first, int64_t n, const V* from) {
  typed(type, [&](auto kind) {
    auto target = reinterpret_cast<decltype(kind)*>(to) + first;
    for (int64_t i = 0; i < n; i++) target[i] = decltype(kind)(from[i]);
  });
}

inline float rounded(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  if ((bits & 0x7f800000) != 0x7f800000) bits = (bits + TABLE_ROUNDING) & ~(2 * TABLE_ROUNDING - 1);
  memcpy(&value, &bits, 4);
  return value;
}

template <class F, class V> void each(V* out, const V* a, int64_t n, const F& of) {
  for (int64_t i = 0; i < n; i++) out[i] = of(a[i]);
}

template <class F, class V> void each(V* out, const V* a, const V* b, int64_t n, const F& of) {
  for (int64_t i = 0; i < n; i++) out[i] = of(a[i], b[i]);
}

// Functions that the SIMD engine has tables for.
inline bool is_table(Op op) { return op >= Op::exp && op <= Op::gelu; }

inline void functions(Op op, float* out, const float* a, int64_t n) {
  switch (op) {
    case Op::sqrt: return each(out, a, n, [](float x) { return std::sqrt(x); });
    case Op::rsqrt: return each(out, a, n, [](float x) { return 1.0f / std::sqrt(x); });
    case Op::reciprocal: return each(out, a, n, [](float x) { return 1.0f / x; });
    case Op::exp: return each(out, a, n, [](float x) { return std::exp(x); });
    case Op::log: return each(out, a, n, [](float x) { return std::log(x); });
    case Op::tanh: return each(out, a, n, [](float x) { return std::tanh(x); });
    case Op::sigmoid: return each(out, a, n, [](float x) { return 1.0f / (1.0f + std::exp(-x)); });
    case Op::gelu:
      return each(out, a, n, [](float x) { return 0.5f * x * std::erfc(-x * float(M_SQRT1_2)); });
    default: return each(out, a, n, [](float x) { return x; });
  }
}

inline void functions(Op op, int64_t* out, const int64_t* a, int64_t n) {
  if (op == Op::flip) return each(out, a, n, [](int64_t x) { return int64_t(x == 0); });
  each(out, a, n, [](int64_t x) { return x; });
}

template <class V> void unary(Op op, V* out, const V* a, int64_t n) {
  switch (op) {
    case Op::neg: return each(out, a, n, [](V x) { return -x; });
    case Op::abs: return each(out, a, n, [](V x) { return x < 0 ? -x : x; });
    case Op::relu: return each(out, a, n, [](V x) { return x < 0 ? V(0) : x; });
    case Op::square: return each(out, a, n, [](V x) { return x * x; });
    case Op::flip: return each(out, a, n, [](V x) { return V(x == 0); });
    default: return functions(op, out, a, n);
  }
}

inline float divided(float a, float b) { return a / b; }
inline int64_t divided(int64_t a, int64_t b) { return b ? a / b : 0; }
inline float shifted(float a, float b) { return std::ldexp(a, -int(b)); }
inline int64_t shifted(int64_t a, int64_t b) { return a >> b; }

template <class V> void binary(Op op, V* out, const V* a, const V* b, int64_t n) {
  switch (op) {
    case Op::add: return each(out, a, b, n, [](V x, V y) { return x + y; });
    case Op::sub: return each(out, a, b, n, [](V x, V y) { return x - y; });
    case Op::mul: return each(out, a, b, n, [](V x, V y) { return x * y; });
    case Op::div: return each(out, a, b, n, [](V x, V y) { return divided(x, y); });
    case Op::max: return each(out, a, b, n, [](V x, V y) { return x > y || x != x ? x : y; });
    case Op::min: return each(out, a, b, n, [](V x, V y) { return x < y || x != x ? x : y; });
    case Op::less: return each(out, a, b, n, [](V x, V y) { return V(x < y); });
    case Op::less_equal: return each(out, a, b, n, [](V x, V y) { return V(x <= y); });
    case Op::equal: return each(out, a, b, n, [](V x, V y) { return V(x == y); });
    case Op::shift_right: return each(out, a, b, n, [](V x, V y) { return shifted(x, y); });
    default: return each(out, a, n, [](V x) { return x; });
  }
}

// `at` are the operands' first elements: output, then inputs.
template <class V> void map_as(const mtia_command& c, char* const* at, bool tables) {
  V a[CHUNK], b[CHUNK], d[CHUNK];
  Op op = Op(c.op);
  bool second = c.inputs > 1 && c.spread != MTIA_SCALAR;
  int64_t width = c.spread == MTIA_EACH || c.spread == MTIA_SCALAR ? c.rows * c.columns : c.columns;
  for (int64_t row = 0; row < c.rows * c.columns / std::max<int64_t>(1, width); row++) {
    if (c.spread == MTIA_SCALAR) std::fill(b, b + CHUNK, V(c.scalar));
    if (c.spread == MTIA_ROW) {
      load(c.input[1].type, at[2], row, 1, b);
      std::fill(b, b + CHUNK, V(b[0]));
    }
    for (int64_t i = 0; i < width; i += CHUNK) {
      int64_t n = std::min(CHUNK, width - i);
      load(c.input[0].type, at[1], row * width + i, n, a);
      if (second && c.spread != MTIA_ROW) load(c.input[1].type, at[2], i, n, b);
      if (c.inputs == 3) {
        load(c.input[2].type, at[3], i, n, d);
        for (int64_t j = 0; j < n; j++) a[j] = a[j] != 0 ? b[j] : d[j];
      } else if (op < Op::add) {
        unary(op, a, a, n);
      } else {
        binary(op, a, a, b, n);
      }
      if constexpr (std::is_same_v<V, float>)
        if (tables && is_table(op)) each(a, a, n, rounded);
      store(c.output.type, at[0], row * width + i, n, a);
    }
  }
}

template <class V> void fold_as(const mtia_command& c, char* const* at) {
  V part[CHUNK];
  for (int64_t row = 0; row < c.rows; row++) {
    V found{};
    for (int64_t i = 0; i < c.columns; i += CHUNK) {
      int64_t n = std::min(CHUNK, c.columns - i);
      load(c.input[0].type, at[1], row * c.columns + i, n, part);
      for (int64_t half = CHUNK / 2, m = n; m > 1; half /= 2)  // pairwise, as a tree of adders is
        if (m > half) {
          binary(Op(c.op), part, part, part + half, m - half);
          m = half;
        }
      if (i == 0) found = part[0];
      else binary(Op(c.op), &found, &found, part, 1);
    }
    store(c.output.type, at[0], row, 1, &found);
  }
}

inline bool all_whole(const mtia_command& c) {
  bool found = whole(c.output.type);
  for (int i = 0; i < c.inputs; i++) found = found && whole(c.input[i].type);
  return found;
}

inline void map(const mtia_command& c, char* const* at, bool tables) {
  all_whole(c) ? map_as<int64_t>(c, at, tables) : map_as<float>(c, at, tables);
}

inline void fold(const mtia_command& c, char* const* at) {
  all_whole(c) ? fold_as<int64_t>(c, at) : fold_as<float>(c, at);
}

template <class V> void multiply_as(const mtia_command& c, char* const* at) {
  static std::vector<V> a, b, flipped;
  int64_t m = c.rows, n = c.columns, k = c.depth;
  a.resize(m * k), b.resize(n * k), flipped.resize(n * k);
  load(c.input[0].type, at[1], 0, m * k, a.data());
  load(c.input[1].type, at[2], 0, n * k, b.data());
  constexpr int64_t TILE = 16;
  for (int64_t p = 0; p < k; p += TILE)
    for (int64_t j = 0; j < n; j++)
      for (int64_t q = p; q < std::min(p + TILE, k); q++) flipped[q * n + j] = b[j * k + q];
  V* sums = reinterpret_cast<V*>(at[0]);
  if (!c.op) std::fill(sums, sums + m * n, V(0));
  for (int64_t i = 0; i < m; i++)
    for (int64_t p = 0; p + 3 < k || p < k; p += 4) {
      V* row = sums + i * n;
      const V* x = &a[i * k + p];
      const V* y = &flipped[p * n];
      if (p + 3 < k)
        for (int64_t j = 0; j < n; j++)
          row[j] += (x[0] * y[j] + x[1] * y[n + j]) + (x[2] * y[2 * n + j] + x[3] * y[3 * n + j]);
      else
        for (int64_t q = 0; p + q < k; q++)
          for (int64_t j = 0; j < n; j++) row[j] += x[q] * y[q * n + j];
    }
}

inline void multiply(const mtia_command& c, char* const* at) {
  c.output.type == MTIA_I32 ? multiply_as<int32_t>(c, at) : multiply_as<float>(c, at);
}

inline void transpose(const mtia_command& c, char* const* at) {
  int64_t size = size_of(c.output.type);
  for (int64_t i = 0; i < c.rows; i++)
    for (int64_t j = 0; j < c.columns; j++)
      memcpy(at[0] + (j * c.rows + i) * size, at[1] + (i * c.columns + j) * size, size);
}

inline void add_to(mtia_type type, char* to, const char* from, int64_t elements) {
  float a[CHUNK], b[CHUNK];
  for (int64_t i = 0; i < elements; i += CHUNK) {
    int64_t n = std::min(CHUNK, elements - i);
    load(type, to, i, n, a), load(type, from, i, n, b);
    binary(Op::add, a, a, b, n);
    store(type, to, i, n, a);
  }
}

}  // namespace work
