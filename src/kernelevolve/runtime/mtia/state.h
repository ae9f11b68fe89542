// The machine while a kernel runs: PEs with their cores, engines and circular buffers.
#pragma once
#include <setjmp.h>
#include <ucontext.h>

#include <array>
#include <cstdarg>
#include <cstdio>
#include <deque>
#include <map>
#include <queue>
#include <string>
#include <vector>

#include "memory.h"
#include "work.h"

namespace simulator {

constexpr int ENGINES = MTIA_CORE0, CORES = 2, SIDES = 4;
constexpr size_t STACK = 128 << 10, GUARD = 4096;  // a page that a stack must not reach
constexpr int64_t ALIGNMENT = 32;  // bytes, of engines' operands
enum class Wait { NONE, QUEUE, BLOCK, DRAIN, BARRIER };
enum class Failure { NONE, FAULT, DEADLOCK, TIME };

struct Use {            // of a block, by a command that was issued and has not ended
  int64_t order, sequence;
  bool write, filling;
};

struct Slot {           // memory of one block
  int64_t sequence;     // of the block that has it
  int64_t written = -1; // the last one that something was written into
  std::vector<Use> uses;
};

struct Ring {           // a circular buffer
  std::string name;
  mtia_type type;
  int64_t elements, blocks;
  char* memory;
  std::vector<Slot> slots;
  int64_t pushes = 0, pops = 0;
  int producer = -1, consumer = -1;
  Slot& slot(int64_t sequence) { return slots[sequence % blocks]; }
};

struct Command {
  mtia_command c;
  int64_t order, number;  // number: among the PE's reads of its group, or sums to and from a side
  int pe, core, flows;    // flows: bandwidths that still move its bytes
  bool arrived;
  double started, latency;
  std::vector<int64_t> others;  // commands of other PEs that start and end with it
};

struct Engine {
  std::deque<int64_t> queue;  // not started
  int running = 0;
  double busy_since = 0, blocked_since = -1;
};

struct Core {
  jmp_buf at;
  ucontext_t context;
  int pe, number;
  bool started = false, ended = false;
  double time = 0, waiting_since = 0;
  Wait wait = Wait::NONE;
  mtia_operand block{};   // that it waits for
  int engine = 0;         // whose queue is full
  int64_t issued = 0, done = 0;
  size_t buffers = 0;     // declared
  const char* file = "";
  int line = 0;
  std::vector<std::array<int64_t, 2>> arrived;  // of each buffer: blocks waited for, front and back
  memory::CoreCache cache;
};

struct Pe {
  std::vector<Ring> rings;
  Engine engines[ENGINES];
  Core cores[CORES];
  char* local = nullptr;
  int64_t used = 0;
  int64_t group_reads[3] = {}, sends[SIDES] = {}, receives[SIDES] = {};
};

enum class What { RESUME, FREE, DONE };

struct Event {
  double time;
  int64_t order;
  What what;
  int64_t subject;  // a core, an engine or a command
  bool operator>(const Event& other) const {
    return time != other.time ? time > other.time : order > other.order;
  }
};

struct Machine {
  mtia_launch* launch;
  mtia_machine is;
  mtia_entry entry;
  const void* kernel;
  jmp_buf top, scheduler;
  ucontext_t scheduler_context;
  int pes, at_barrier;
  double now;
  int64_t orders;
  std::vector<Pe> pe;
  std::deque<Command> commands;
  std::vector<int64_t> unused;
  std::priority_queue<Event, std::vector<Event>, std::greater<Event>> events;
  std::map<std::array<int64_t, 4>, std::vector<int64_t>> meetings;  // commands that wait for others
  memory::Shared sram, dram;
  memory::Cache cache;
  std::vector<int64_t> first_line;  // of each region, in the cache
  Core* self;
};

inline Machine* m;
inline char* stacks;

inline void schedule(double time, What what, int64_t subject) {
  m->events.push({time, m->orders++, what, subject});
}

[[noreturn]] inline void fail(Failure failure, const char* file, int line, const char* format, ...) {
  va_list rest;
  va_start(rest, format);
  vsnprintf(m->launch->message, sizeof m->launch->message, format, rest);
  va_end(rest);
  snprintf(m->launch->file, sizeof m->launch->file, "%s", file);
  m->launch->line = line;
  m->launch->failure = int64_t(failure);
  longjmp(m->top, 1);
}

inline void record(double start, double end, int pe, int unit, int kind, int line) {
  mtia_launch* l = m->launch;
  if (l->recorded < l->events) l->event[l->recorded++] = {start, end, pe, unit, kind, line};
}

inline const char* unit_name(int unit) {
  constexpr const char* names[] = {"FI read", "FI write", "DPE",    "RE",
                                   "SE",      "MLU",      "core 0", "core 1"};
  return names[unit];
}

}  // namespace simulator
