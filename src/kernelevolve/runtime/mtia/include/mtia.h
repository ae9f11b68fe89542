// Kernels for MTIA's processing elements (PEs), in C++.
//
// A kernel is a function that both cores of every PE run at the same time:
//
//   void twice(Core& core, Global<const float> x, Global<float> out, int64_t n) { ... }
//   MTIA_KERNEL(twice)
//
// The cores issue commands to the engines of their PE and go on; the engines work on blocks of
// circular buffers in local memory. A command starts once the blocks that it reads are complete and
// the one that it writes is free, and after earlier commands of the same core on the same block.
// One core is a buffer's producer: it fills `back()` and calls `push()`. One is its consumer: it
// uses `front()` and calls `pop()`. Either may be the same core. Before a core itself touches what
// is in a block (elements, `core.vector`) it must call `core.wait(block)`.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <type_traits>
#include <utility>

#include "mtia_abi.h"

namespace mtia {

using half = _Float16;

struct bfloat {
  uint16_t bits = 0;
  bfloat() = default;
  bfloat(float value) {
    uint32_t b;
    memcpy(&b, &value, 4);
    bits = value != value ? uint16_t(b >> 16 | 64) : uint16_t((b + 0x7fff + (b >> 16 & 1)) >> 16);
  }
  operator float() const {
    uint32_t b = uint32_t(bits) << 16;
    float value;
    memcpy(&value, &b, 4);
    return value;
  }
};

enum class Op : int32_t {
  copy, neg, abs, relu, square, sqrt, rsqrt, reciprocal, exp, log, tanh, sigmoid, gelu, flip,
  add, sub, mul, div, max, min, less, less_equal, equal, shift_right, select
};
enum class Side : int32_t { left, right, up, down };
enum class Group : int32_t { alone, row, column };

struct Where {  // in the kernel's source; left to its default
  const char* file;
  int line;
  static Where here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    return {file, line};
  }
};

template <class T> struct type_of;
template <> struct type_of<float> { static constexpr mtia_type value = MTIA_F32; };
template <> struct type_of<half> { static constexpr mtia_type value = MTIA_F16; };
template <> struct type_of<bfloat> { static constexpr mtia_type value = MTIA_BF16; };
template <> struct type_of<int8_t> { static constexpr mtia_type value = MTIA_I8; };
template <> struct type_of<int32_t> { static constexpr mtia_type value = MTIA_I32; };
template <> struct type_of<int64_t> { static constexpr mtia_type value = MTIA_I64; };
template <class T> struct type_of<const T> : type_of<T> {};

// A tensor in device memory. `x + n` is n elements further; nothing is read but by commands.
template <class T> class Global {
 public:
  explicit Global(uint64_t origin, uint64_t offset = 0) : origin(origin), address(origin + offset) {}
  Global operator+(int64_t elements) const {
    return Global(origin, address - origin + elements * sizeof(T));
  }
  operator Global<const T>() const { return Global<const T>(origin, address - origin); }
  uint64_t origin, address;
};

// Part of a block of a circular buffer. `b + n` begins n elements further.
template <class T> class Block {
 public:
  Block(void* core, mtia_operand operand) : operand(operand), core(core) {}
  Block operator+(int64_t n) const {
    Block moved = *this;
    moved.operand.offset += n;
    return moved;
  }
  // One element, after core.wait(): a core's own slow access.
  T get(int64_t index, Where w = Where::here()) const {
    return *static_cast<T*>(mtia_element(core, &operand, index, 0, w.file, w.line));
  }
  void set(int64_t index, T value, Where w = Where::here()) const {
    *static_cast<T*>(mtia_element(core, &operand, index, 1, w.file, w.line)) = value;
  }
  mtia_operand operand;
  void* core;
};

// Blocks in local memory, filled in turn by one core's commands and used by one core's.
template <class T> class Buffer {
 public:
  Buffer(void* core, int32_t number) : core(core), number(number) {}
  // The block that is to be filled next, and after push() the one behind it.
  Block<T> back() const { return block(1, mtia_back(core, number)); }
  // The oldest block that was not popped, or one that follows it.
  Block<T> front(int64_t ahead = 0) const { return block(0, mtia_front(core, number) + ahead); }
  // No further command of this core writes back(): it is complete once those issued have ended.
  void push(Where w = Where::here()) const { mtia_push(core, number, w.file, w.line); }
  // No further command of this core uses front(): it is free once those issued have ended.
  void pop(Where w = Where::here()) const { mtia_pop(core, number, w.file, w.line); }

 private:
  Block<T> block(int32_t filling, int64_t sequence) const {
    return {core, {number, filling, sequence, 0, 0, type_of<T>::value}};
  }
  void* core;
  int32_t number;
};

// What SIMD engine and vector core can both do, with blocks of any types.
class Elementwise {
 public:
  Elementwise(void* core, mtia_unit unit) : core(core), unit(unit) {}
  template <class T, class A>
  void map(Op op, Block<T> out, Block<A> a, int64_t n, Where w = Where::here()) const {
    issue(op, MTIA_MAP, MTIA_EACH, 1, n, 0, w, out, n, a, n, a, 0, a, 0);
  }
  template <class T, class A, class B>
  void map(Op op, Block<T> out, Block<A> a, Block<B> b, int64_t n, Where w = Where::here()) const {
    issue(op, MTIA_MAP, MTIA_EACH, 1, n, 0, w, out, n, a, n, b, n, a, 0);
  }
  template <class T, class A>
  void map(Op op, Block<T> out, Block<A> a, double scalar, int64_t n, Where w = Where::here()) const {
    issue(op, MTIA_MAP, MTIA_SCALAR, 1, n, scalar, w, out, n, a, n, a, 0, a, 0);
  }
  // out = condition ? a : b
  template <class T, class C, class A, class B>
  void select(Block<T> out, Block<C> condition, Block<A> a, Block<B> b, int64_t n,
              Where w = Where::here()) const {
    issue(Op::select, MTIA_MAP, MTIA_EACH, 1, n, 0, w, out, n, condition, n, a, n, b, n);
  }
  // A matrix with one value for each of its rows: out[i][j] = a[i][j] op values[i]
  template <class T, class A, class B>
  void rows(Op op, Block<T> out, Block<A> a, Block<B> values, int64_t rows, int64_t columns,
            Where w = Where::here()) const {
    issue(op, MTIA_MAP, MTIA_ROW, rows, columns, 0, w, out, rows * columns, a, rows * columns,
          values, rows, a, 0);
  }
  // A matrix with one value for each of its columns: out[i][j] = a[i][j] op values[j]
  template <class T, class A, class B>
  void columns(Op op, Block<T> out, Block<A> a, Block<B> values, int64_t rows, int64_t columns,
               Where w = Where::here()) const {
    issue(op, MTIA_MAP, MTIA_COLUMN, rows, columns, 0, w, out, rows * columns, a, rows * columns,
          values, columns, a, 0);
  }
  // One value for each row: add, max or min over its columns.
  template <class T, class A>
  void fold(Op op, Block<T> out, Block<A> a, int64_t rows, int64_t columns,
            Where w = Where::here()) const {
    issue(op, MTIA_FOLD, MTIA_EACH, rows, columns, 0, w, out, rows, a, rows * columns, a, 0, a, 0);
  }

 protected:
  template <class T, class A, class B, class C>
  void issue(Op op, mtia_kind kind, mtia_spread spread, int64_t rows, int64_t columns, double scalar,
             Where w, Block<T> out, int64_t nout, Block<A> a, int64_t na, Block<B> b, int64_t nb,
             Block<C> c, int64_t nc) const {
    mtia_command made{};
    made.unit = unit, made.kind = kind, made.op = int32_t(op), made.spread = spread;
    made.rows = rows, made.columns = columns, made.scalar = scalar;
    made.file = w.file, made.line = w.line, made.has_output = 1;
    made.output = out.operand, made.output.elements = nout;
    made.input[0] = a.operand, made.input[0].elements = na;
    made.input[1] = b.operand, made.input[1].elements = nb;
    made.input[2] = c.operand, made.input[2].elements = nc;
    made.inputs = nc ? 3 : nb ? 2 : 1;
    mtia_issue(core, &made);
  }
  void* core;
  mtia_unit unit;
};

inline mtia_command command(mtia_unit unit, mtia_kind kind, int64_t rows, int64_t columns, Where w) {
  mtia_command made{};
  made.unit = unit, made.kind = kind, made.rows = rows, made.columns = columns;
  made.file = w.file, made.line = w.line;
  return made;
}

template <class T> mtia_operand part(Block<T> block, int64_t elements) {
  block.operand.elements = elements;
  return block.operand;
}

// Fabric interface: DMA between device memory and local memory.
class Fabric {
 public:
  explicit Fabric(void* core) : core(core) {}
  template <class T>
  void read(Block<T> to, Global<const T> from, int64_t n, Group group = Group::alone,
            Where w = Where::here()) const {
    read(to, from, 1, n, n, n, group, w);
  }
  // A tile of a matrix whose rows are `stride` elements apart; in the block they are `pitch` apart,
  // with zeros between. With a group, one read serves all PEs of this PE's row or column, each of
  // which must issue the same.
  template <class T>
  void read(Block<T> to, Global<const T> from, int64_t rows, int64_t columns, int64_t stride,
            int64_t pitch, Group group = Group::alone, Where w = Where::here()) const {
    mtia_command made = command(MTIA_READ, MTIA_IN, rows, columns, w);
    made.has_output = 1, made.output = part(to, rows * pitch);
    made.origin = from.origin, made.address = from.address;
    made.stride = stride * int64_t(sizeof(T)), made.pitch = pitch;
    made.group = int32_t(group);
    mtia_issue(core, &made);
  }
  // Rows of a table by the indices in a block: to[i] = table[indices[i]].
  template <class T, class I>
  void gather(Block<T> to, Global<const T> table, Block<I> indices, int64_t rows, int64_t columns,
              Where w = Where::here()) const {
    mtia_command made = command(MTIA_READ, MTIA_INDEXED, rows, columns, w);
    made.has_output = 1, made.output = part(to, rows * columns);
    made.inputs = 1, made.input[0] = part(indices, rows);
    made.origin = table.origin, made.address = table.address;
    made.stride = columns * int64_t(sizeof(T)), made.pitch = columns;
    mtia_issue(core, &made);
  }
  template <class T>
  void write(Global<T> to, Block<T> from, int64_t n, Where w = Where::here()) const {
    write(to, from, 1, n, n, n, w);
  }
  template <class T>
  void write(Global<T> to, Block<T> from, int64_t rows, int64_t columns, int64_t stride,
             int64_t pitch, Where w = Where::here()) const {
    mtia_command made = command(MTIA_WRITE, MTIA_OUT, rows, columns, w);
    made.inputs = 1, made.input[0] = part(from, (rows - 1) * pitch + columns);
    made.origin = to.origin, made.address = to.address;
    made.stride = stride * int64_t(sizeof(T)), made.pitch = pitch;
    mtia_issue(core, &made);
  }

 private:
  void* core;
};

// Dot-product engine: sums[m][n] (+)= a[m][k] · b[n][k], both with k contiguous.
class Matrix {
 public:
  explicit Matrix(void* core) : core(core) {}
  template <class S, class T>
  void multiply(Block<S> sums, Block<T> a, Block<T> b, int64_t m, int64_t n, int64_t k,
                bool accumulate, Where w = Where::here()) const {
    static_assert(sizeof(S) == 4, "sums are float, or int32_t for int8_t");
    mtia_command made = command(MTIA_DPE, MTIA_MULTIPLY, m, n, w);
    made.depth = k, made.op = accumulate, made.has_output = 1, made.inputs = 2;
    made.output = part(sums, m * n), made.input[0] = part(a, m * k), made.input[1] = part(b, n * k);
    mtia_issue(core, &made);
  }

 private:
  void* core;
};

// Reduction engine: partial sums to and from the next PE, over links of their own.
class Reduction {
 public:
  explicit Reduction(void* core) : core(core) {}
  template <class T> void send(Side to, Block<T> from, int64_t n, Where w = Where::here()) const {
    mtia_command made = command(MTIA_RE, MTIA_SEND, 1, n, w);
    made.side = int32_t(to), made.inputs = 1, made.input[0] = part(from, n);
    mtia_issue(core, &made);
  }
  // to += what the neighbour sends.
  template <class T> void receive(Side from, Block<T> to, int64_t n, Where w = Where::here()) const {
    mtia_command made = command(MTIA_RE, MTIA_RECEIVE, 1, n, w);
    made.side = int32_t(from), made.has_output = 1, made.output = part(to, n);
    mtia_issue(core, &made);
  }

 private:
  void* core;
};

// Memory layout unit.
class Layout {
 public:
  explicit Layout(void* core) : core(core) {}
  template <class T>
  void transpose(Block<T> out, Block<T> in, int64_t rows, int64_t columns,
                 Where w = Where::here()) const {
    mtia_command made = command(MTIA_MLU, MTIA_TRANSPOSE, rows, columns, w);
    made.has_output = 1, made.output = part(out, rows * columns);
    made.inputs = 1, made.input[0] = part(in, rows * columns);
    mtia_issue(core, &made);
  }

 private:
  void* core;
};

// The vector core's own work: exact functions; the core goes on when it is done.
class Vector : public Elementwise {
 public:
  Vector(void* core, mtia_unit unit) : Elementwise(core, unit) {}
  // Single elements of a table by index, one after the other through the core's cache.
  template <class T, class I>
  void gather(Block<T> to, Global<const T> table, Block<I> indices, int64_t n,
              Where w = Where::here()) const {
    mtia_command made = command(unit, MTIA_GATHER, n, 1, w);
    made.has_output = 1, made.output = part(to, n);
    made.inputs = 1, made.input[0] = part(indices, n);
    made.origin = table.origin, made.address = table.address, made.stride = sizeof(T), made.pitch = 1;
    mtia_issue(core, &made);
  }
};

class Core {
 public:
  explicit Core(void* core)
      : pe(mtia_place(core).pe), number(mtia_place(core).number), row(mtia_place(core).row),
        column(mtia_place(core).column), rows(mtia_place(core).rows),
        columns(mtia_place(core).columns), pes(rows * columns), fi(core), dpe(core), re(core),
        se(core, MTIA_SE), mlu(core), vector(core, number ? MTIA_CORE1 : MTIA_CORE0), core(core) {}
  Core(const Core&) = delete;

  const int pe, number;          // which PE, and which of its cores: 0 or 1
  const int row, column;         // of the PE in the grid
  const int rows, columns, pes;  // of the grid
  const Fabric fi;
  const Matrix dpe;
  const Reduction re;
  const Elementwise se;  // tables for exp, log, tanh, sigmoid, gelu: 12 significant bits
  const Layout mlu;
  const Vector vector;

  // The same buffers, in the same order, for both cores. Blocks are multiples of 32 bytes.
  template <class T>
  Buffer<T> buffer(const char* name, int64_t elements, int64_t blocks, Where w = Where::here()) {
    return {core, mtia_buffer(core, name, type_of<T>::value, elements, blocks, w.file, w.line)};
  }
  // Until a block is complete (front) or free and at rest (back).
  template <class T> void wait(Block<T> block, Where w = Where::here()) {
    mtia_wait(core, &block.operand, w.file, w.line);
  }
  // Until all commands that this core issued have ended.
  void drain(Where w = Where::here()) { mtia_drain(core, w.file, w.line); }
  // Until both cores of all PEs are here, all that they issued has ended, and others can read it.
  void barrier(Where w = Where::here()) { mtia_barrier(core, w.file, w.line); }
  // One element of device memory, through the core's cache.
  template <class T> T load(Global<T> from, Where w = Where::here()) {
    std::remove_const_t<T> value;
    memcpy(&value, mtia_load(core, from.origin, from.address, sizeof(T), w.file, w.line), sizeof(T));
    return value;
  }
  // Cycles of work that the simulator does not see: long computations in plain C++.
  void work(double cycles, Where w = Where::here()) { mtia_work(core, cycles, w.file, w.line); }

 private:
  void* core;
};

template <class A> struct argument {
  static A of(const mtia_launch* launch, size_t i) {
    if constexpr (std::is_floating_point_v<A>) return A(launch->reals[i]);
    else return A(launch->integers[i]);
  }
};

template <class... A> struct Entry {
  using Kernel = void (*)(Core&, A...);
  static void enter(const void* kernel, const mtia_launch* launch, void* place) {
    call(kernel, launch, place, std::index_sequence_for<A...>{});
  }
  template <size_t... I>
  static void call(const void* kernel, const mtia_launch* launch, void* place,
                   std::index_sequence<I...>) {
    Core core(place);
    Kernel(const_cast<void*>(kernel))(core, argument<std::decay_t<A>>::of(launch, I)...);
  }
};

template <class... A> int start(mtia_launch* launch, void (*kernel)(Core&, A...)) {
  if (launch->count != int64_t(sizeof...(A))) return -int(sizeof...(A)) - 1;
  return mtia_run(launch, Entry<A...>::enter, reinterpret_cast<const void*>(kernel));
}

}  // namespace mtia

// Makes a kernel of a function, behind its definition.
#define MTIA_KERNEL(name)                              \
  extern "C" int mtia_kernel_##name(mtia_launch* launch) { return mtia::start(launch, name); }
