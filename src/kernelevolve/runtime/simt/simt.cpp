// Runs the threads of a block as fibers, and checks each of their memory accesses.
//
// Compiled without -fsanitize=thread itself; the hooks that the flag calls are at the end.
#include <dlfcn.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <vector>

#include "launch.h"

#ifndef SIMT_WARP
#define SIMT_WARP 32
#endif
#define DYNAMIC (256 << 10)

extern "C" {
alignas(256) char simt_dynamic_memory[DYNAMIC];
}

namespace {

constexpr size_t STACK = 128 << 10;
constexpr int MOST_THREADS = 1024;
constexpr size_t BEYOND = 4096;  // bytes behind shared memory that nothing else has
constexpr uint16_t SEVERAL = 1, WARPS = 2;  // who read a byte: more than one thread, or warp

enum class State : uint8_t { READY, BARRIER, WARP, ENDED };

struct Fiber {
  jmp_buf at;
  ucontext_t context;
  State state;
  bool started;
  simt_index index;
  void* pc;             // of the barrier or the warp's operation that it waits at
  uint64_t mask, value, result;
  int kind, source;
  int line;             // of an operation without a mask; 0 of any other
  uint16_t operation;   // of its warp, counted; orders accesses within the warp
};

struct Byte {           // of shared memory
  uint32_t written_at, read_at;    // where in the library
  uint32_t written, read;          // epochs; a barrier or a new block begins one
  uint16_t writer, reader;         // threads
  uint16_t write_operation, read_operation;
  uint16_t readers;
};

struct Machine {
  Fiber fibers[MOST_THREADS];
  char* stacks = nullptr;
  Fiber* self = nullptr;
  int count = 0;
  jmp_buf scheduler;
  ucontext_t scheduler_context;
  simt_launch* launch = nullptr;
  simt_invoke invoke = nullptr;
  const void* kernel = nullptr;
  simt_image image{};
  simt_index block{};
  uint32_t epoch = 1, block_epoch = 1;
  int told = 0, arrived = 0;
  int barrier_result = 0;
  std::vector<Byte> shadow;
  size_t static_shared = 0;
  bool failed = false;
  const simt_region* latest = nullptr;
};

Machine m;


int number(const Fiber* f) { return int(f - m.fibers); }

[[noreturn]] void leave() { longjmp(m.scheduler, 1); }

void wait(State state, void* pc) {
  m.self->state = state;
  m.self->pc = pc;
  if (!setjmp(m.self->at)) leave();
}

uint32_t offset_of(void* pc) { return uint32_t(static_cast<char*>(pc) - m.image.begin); }

[[noreturn]] void fail(void* pc, const char* format, ...) {
  if (!m.failed) {
    m.failed = true;
    va_list rest;
    va_start(rest, format);
    size_t used = size_t(vsnprintf(m.launch->message, sizeof m.launch->message, format, rest));
    va_end(rest);
    if (m.self && used < sizeof m.launch->message)
      snprintf(m.launch->message + used, sizeof m.launch->message - used,
               " (thread %u,%u,%u of block %u,%u,%u)", m.self->index.x, m.self->index.y,
               m.self->index.z, m.block.x, m.block.y, m.block.z);
    m.launch->pc = pc ? uint64_t(static_cast<char*>(pc) - m.image.begin) : 0;
  }
  leave();
}

void body() {
  for (;;) {
    m.invoke(m.kernel, m.launch);
    wait(State::ENDED, nullptr);
  }
}

void resume(Fiber* f) {
  m.self = f;
  if (!setjmp(m.scheduler)) {
    if (f->started) longjmp(f->at, 1);
    f->started = true;
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = m.stacks + size_t(number(f)) * STACK;
    f->context.uc_stack.ss_size = STACK;
    f->context.uc_link = nullptr;
    makecontext(&f->context, body, 0);
    setcontext(&f->context);
  }
}

void release_barrier() {
  m.barrier_result = m.told;
  m.told = m.arrived = 0;
  m.epoch++;
  for (int i = 0; i < m.count; i++)
    if (m.fibers[i].state == State::BARRIER) m.fibers[i].state = State::READY;
}

void stuck() {
  Fiber *warp = nullptr, *barrier = nullptr;
  for (int i = 0; i < m.count; i++) {
    if (m.fibers[i].state == State::WARP && !warp) warp = &m.fibers[i];
    if (m.fibers[i].state == State::BARRIER && !barrier) barrier = &m.fibers[i];
  }
  m.self = warp;
  int first = number(warp) / SIMT_WARP * SIMT_WARP;
  for (int lane = 0; lane < SIMT_WARP; lane++) {
    if (!(warp->mask >> lane & 1)) continue;
    Fiber* other = &m.fibers[first + lane];
    if (first + lane >= m.count || other->state == State::ENDED)
      fail(warp->pc, "a warp's operation waits for lane %d, which has ended", lane);
    if (other->state == State::BARRIER)
      fail(warp->pc, "a warp's operation waits for lane %d, which waits at a barrier", lane);
    if (other->mask != warp->mask)
      fail(warp->pc, "lanes of a warp wait with different masks: %llx and %llx",
           (unsigned long long)warp->mask, (unsigned long long)other->mask);
  }
  fail(warp->pc, "threads wait for each other");
}

bool complete(Fiber* f);

// Lets lanes that wait without a mask meet: in each warp those at the earliest line of the source,
// as a machine in lockstep brings lanes together again behind branches and loops.
bool meet() {
  bool met = false;
  for (int first = 0; first < m.count; first += SIMT_WARP) {
    Fiber* least = nullptr;
    uint64_t mask = 0;
    for (int lane = 0; lane < SIMT_WARP && first + lane < m.count; lane++) {
      Fiber* f = &m.fibers[first + lane];
      if (f->state != State::WARP || !f->line || (least && f->line > least->line)) continue;
      if (!least || f->line < least->line) least = f, mask = 0;
      if (f->kind == least->kind) mask |= 1ull << lane;
    }
    if (!least) continue;
    for (int lane = 0; lane < SIMT_WARP; lane++)
      if (mask >> lane & 1) m.fibers[first + lane].mask = mask;
    met |= complete(least);
  }
  return met;
}

bool run_block() {
  for (int i = 0; i < m.count; i++) m.fibers[i].state = State::READY, m.fibers[i].operation = 0;
  m.block_epoch = ++m.epoch;
  memset(m.image.shared, 0xff, m.static_shared);
  memset(simt_dynamic_memory, 0xff, m.launch->dynamic_shared);
  for (;;) {
    for (int i = 0; i < m.count && !m.failed; i++)
      if (m.fibers[i].state == State::READY) resume(&m.fibers[i]);
    if (m.failed) return false;
    int ready = 0, waiting = 0, warps = 0;
    for (int i = 0; i < m.count; i++) {
      ready += m.fibers[i].state == State::READY;
      waiting += m.fibers[i].state == State::BARRIER;
      warps += m.fibers[i].state == State::WARP;
    }
    if (ready || (warps && meet())) continue;
    if (warps) {
      if (!setjmp(m.scheduler)) stuck();
      return false;
    }
    if (!waiting) return true;
    release_barrier();
  }
}

#include "checks.h"

bool complete(Fiber* f) {
  int first = number(f) / SIMT_WARP * SIMT_WARP;
  for (int lane = 0; lane < SIMT_WARP; lane++) {
    if (!(f->mask >> lane & 1)) continue;
    Fiber* other = &m.fibers[first + lane];
    if (first + lane >= m.count || other->state != State::WARP) return false;
    if (other->mask != f->mask || other->kind != f->kind) return false;
  }
  uint64_t ballot = 0;
  for (int lane = 0; lane < SIMT_WARP; lane++)
    if (f->mask >> lane & 1) ballot |= uint64_t(m.fibers[first + lane].value != 0) << lane;
  for (int lane = 0; lane < SIMT_WARP; lane++) {
    if (!(f->mask >> lane & 1)) continue;
    Fiber* other = &m.fibers[first + lane];
    int source = other->source;
    bool takes = first + source < m.count && (f->mask >> source & 1);
    other->result = f->kind == 2 ? ballot : takes ? m.fibers[first + source].value : 0xffffffffffffffffull;
    other->operation++;
    other->state = State::READY;
  }
  return true;
}

void excess(uint64_t bytes, const char* of) {
  snprintf(m.launch->message, sizeof m.launch->message,
           "%llu bytes of %s for a block, of which the device has %llu", (unsigned long long)bytes,
           of, (unsigned long long)m.launch->shared_limit);
}

// What the block just run has used, since a library's shared memory is that of all its kernels.
bool held_too_much() {
  uint64_t used = m.launch->dynamic_shared;
  for (size_t i = 0; i < m.static_shared; i++) used += m.shadow[i].written >= m.block_epoch;
  if (used > m.launch->shared_limit) excess(used, "shared memory");
  return used > m.launch->shared_limit;
}

const char* oversized(const simt_launch* l) {
  uint64_t threads = uint64_t(l->block[0]) * l->block[1] * l->block[2];
  uint64_t blocks = uint64_t(l->grid[0]) * l->grid[1] * l->grid[2];
  if (!threads || !blocks) return "a launch needs at least one block and one thread";
  if (threads > MOST_THREADS) return "a block has at most 1024 threads";
  if (l->block[2] > 64) return "a block is at most 64 threads deep";
  if (l->grid[1] > 65535 || l->grid[2] > 65535) return "a grid has at most 65535 blocks in y and z";
  return nullptr;
}

}  // namespace

extern "C" {

simt_index simt_thread_index() { return m.self->index; }
simt_index simt_block_index() { return m.block; }
simt_index simt_block_size() { return {m.launch->block[0], m.launch->block[1], m.launch->block[2]}; }
simt_index simt_grid_size() { return {m.launch->grid[0], m.launch->grid[1], m.launch->grid[2]}; }

void simt_fail_assert(const char* told) {
  fail(__builtin_return_address(0), "assertion failed: %s", told);
}

int simt_barrier(int kind, int told) {
  if (kind == 1) m.told |= told;
  if (kind == 2) m.told = m.arrived ? m.told & told : told;
  if (kind == 3) m.told += told;
  m.arrived++;
  wait(State::BARRIER, __builtin_return_address(0));
  return m.barrier_result;
}

uint64_t simt_active() {
  int first = number(m.self) / SIMT_WARP * SIMT_WARP;
  uint64_t found = 0;
  for (int lane = 0; lane < SIMT_WARP && first + lane < m.count; lane++)
    if (m.fibers[first + lane].state != State::ENDED) found |= 1ull << lane;
  return found;
}

uint64_t simt_warp(uint64_t mask, int kind, uint64_t value, int source) {
  Fiber* f = m.self;
  void* pc = __builtin_return_address(0);
  int first = number(f) / SIMT_WARP * SIMT_WARP;
  uint64_t there = 0;
  for (int lane = 0; lane < SIMT_WARP && first + lane < m.count; lane++) there |= 1ull << lane;
  f->mask = mask & there, f->kind = kind, f->value = value, f->source = source, f->line = 0;
  if (!(f->mask >> (number(f) - first) & 1))
    fail(pc, "takes part in a warp's operation whose mask %llx leaves it out", (unsigned long long)mask);
  f->state = State::WARP;
  f->pc = pc;
  if (!complete(f)) wait(State::WARP, pc);
  return f->result;
}

uint64_t simt_here(int line, int kind, uint64_t value, int source) {
  Fiber* f = m.self;
  f->mask = 0, f->kind = kind, f->value = value, f->source = source, f->line = line;
  wait(State::WARP, __builtin_return_address(0));
  return f->result;
}

void simt_touch(const void* at, size_t bytes) {
  check(at, bytes, false, true, true, __builtin_return_address(0));
  check(at, bytes, true, true, true, __builtin_return_address(0));
}

int simt_run(simt_launch* launch, simt_invoke invoke, const void* kernel, int64_t count,
             const simt_image* image) {
  m.launch = launch, m.invoke = invoke, m.kernel = kernel, m.image = *image;
  m.failed = false, m.self = nullptr, m.latest = nullptr;
  launch->pc = launch->other_pc = 0, launch->message[0] = 0;
  m.static_shared = size_t(image->end - image->shared);
  const char* reason = oversized(launch);
  if (reason) {
    snprintf(launch->message, sizeof launch->message, "%s", reason);
  } else if (count != launch->count) {
    snprintf(launch->message, sizeof launch->message, "the kernel takes %lld arguments, not %lld",
             (long long)count, (long long)launch->count);
  } else if (launch->dynamic_shared > launch->shared_limit) {
    excess(launch->dynamic_shared, "dynamic shared memory");
  }
  if (launch->message[0]) return 1;
  if (!m.stacks) {
    m.stacks = static_cast<char*>(mmap(nullptr, STACK * MOST_THREADS, PROT_READ | PROT_WRITE,
                                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (m.stacks == MAP_FAILED) {
      m.stacks = nullptr;
      snprintf(launch->message, sizeof launch->message, "no memory for the stacks of 1024 threads");
      return 1;
    }
  }
  m.shadow.assign(m.static_shared + launch->dynamic_shared, Byte{});
  m.epoch = m.block_epoch = 1;
  m.count = int(launch->block[0] * launch->block[1] * launch->block[2]);
  for (int i = 0; i < m.count; i++) {
    Fiber& f = m.fibers[i];
    f.started = false;
    unsigned across = launch->block[0], plane = across * launch->block[1];
    f.index = {unsigned(i) % across, unsigned(i) / across % launch->block[1], unsigned(i) / plane};
  }
  bool fine = true;
  for (unsigned z = 0; fine && z < launch->grid[2]; z++)
    for (unsigned y = 0; fine && y < launch->grid[1]; y++)
      for (unsigned x = 0; fine && x < launch->grid[0]; x++) {
        m.block = {x, y, z};
        fine = run_block() && (x || y || z || !held_too_much());
      }
  m.self = nullptr;
  return fine ? 0 : 1;
}

#define HOOK(n)                                                                                 \
  void __tsan_read##n(void* at) { check(at, n, false, true, false, __builtin_return_address(0)); } \
  void __tsan_write##n(void* at) { check(at, n, true, true, false, __builtin_return_address(0)); } \
  void __tsan_unaligned_read##n(void* at) { check(at, n, false, false, false, __builtin_return_address(0)); } \
  void __tsan_unaligned_write##n(void* at) { check(at, n, true, false, false, __builtin_return_address(0)); } \
  void __tsan_volatile_read##n(void* at) { check(at, n, false, true, false, __builtin_return_address(0)); } \
  void __tsan_volatile_write##n(void* at) { check(at, n, true, true, false, __builtin_return_address(0)); }
HOOK(1) HOOK(2) HOOK(4) HOOK(8) HOOK(16)
void __tsan_read_range(void* at, size_t n) { check(at, n, false, false, false, __builtin_return_address(0)); }
void __tsan_write_range(void* at, size_t n) { check(at, n, true, false, false, __builtin_return_address(0)); }
// What -fsanitize=alignment calls: structs are taken apart before the hooks above are put in.
struct Mismatch {
  const char* file;
  uint32_t line, column;
  void* type;
  unsigned char alignment, kind;  // the alignment as a power of two
};
void __ubsan_handle_type_mismatch_v1(Mismatch* told, uintptr_t at) {
  uintptr_t wanted = uintptr_t(1) << told->alignment;
  if (m.self && at % wanted)
    fail(__builtin_return_address(0), "accesses %llu bytes at an address that is no multiple of %llu",
         (unsigned long long)wanted, (unsigned long long)wanted);
}
void __tsan_vptr_read(void*) {}
void __tsan_vptr_update(void*, void*) {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_init() {}
}
