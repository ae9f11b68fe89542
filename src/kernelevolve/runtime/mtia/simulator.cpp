// Runs a kernel: a fiber for each core, and events in the order of their simulated time.
#include <sys/mman.h>

#include "schedule.h"

using namespace simulator;

namespace {

void begin_fiber() {
  m->entry(m->kernel, m->launch, m->self);
  Core* self = m->self;
  self->ended = true;
  for (;;) leave();
}

void resume(Core* core) {
  m->self = core;
  if (setjmp(m->scheduler)) return;
  if (core->started) longjmp(core->at, 1);
  core->started = true;
  getcontext(&core->context);
  core->context.uc_stack.ss_sp = stacks + size_t(core->pe * CORES + core->number) * STACK;
  core->context.uc_stack.ss_size = STACK;
  core->context.uc_link = nullptr;
  makecontext(&core->context, begin_fiber, 0);
  setcontext(&core->context);
}

void set_up(char* locals) {
  const mtia_machine& is = m->is;
  m->pe = std::vector<Pe>(m->pes);
  int64_t lines = 0;
  for (int64_t i = 0; i < m->launch->regions; i++) {
    m->first_line.push_back(lines);
    lines += int64_t(double(m->launch->region[i].bytes) / is.cache_line) + 1;
  }
  m->cache.set(int64_t(m->launch->cache_bytes / is.cache_line));
  m->cache.cover(lines);
  m->sram.set(is.sram_rate, is.port_rate);
  m->dram.set(is.dram_rate, is.dram_rate);
  for (int pe = 0; pe < m->pes; pe++) {
    m->pe[pe].local = locals + size_t(pe) * size_t(is.local_bytes);
    for (int number = 0; number < CORES; number++) {
      Core& core = m->pe[pe].cores[number];
      core.pe = pe, core.number = number;
      core.cache.set(int64_t(is.core_cache / is.core_line));
      schedule(is.launch_cycles, What::RESUME, pe * CORES + number);
    }
  }
}

void handle(const Event& event) {
  switch (event.what) {
    case What::RESUME: return resume(&m->pe[event.subject / CORES].cores[event.subject % CORES]);
    case What::FREE: return release(event.subject);
    case What::DONE: return end(event.subject);
  }
}

void run() {
  for (;;) {
    double event = m->events.empty() ? memory::NEVER : m->events.top().time;
    double sram = m->sram.next(), dram = m->dram.next();
    double next = std::min(event, std::min(sram, dram));
    if (next == memory::NEVER) return;
    m->now = std::max(m->now, next);
    if (m->now > m->launch->most_cycles) out_of_time();
    if (next == sram || next == dram) {
      moved((next == sram ? m->sram : m->dram).end(m->now));
      continue;
    }
    Event now = m->events.top();
    m->events.pop();
    handle(now);
  }
}

int no_memory(mtia_launch* launch, size_t bytes) {
  snprintf(launch->message, sizeof launch->message, "no memory for %zu bytes of stacks and local memory",
           bytes);
  launch->failure = int64_t(Failure::FAULT);
  return int(launch->failure);
}

Core* as_core(void* core) { return static_cast<Core*>(core); }

mtia_command touch(Core* core, const char* file, int line) {
  mtia_command made{};
  made.unit = mtia_unit(MTIA_CORE0 + core->number), made.file = file, made.line = line;
  return made;
}

Ring& ring_at(Core* core, int32_t buffer) { return m->pe[core->pe].rings[buffer]; }

}  // namespace

extern "C" {

int mtia_run(mtia_launch* launch, mtia_entry entry, const void* kernel) {
  Machine machine{};
  m = &machine;
  m->launch = launch, m->is = *launch->machine, m->entry = entry, m->kernel = kernel;
  m->pes = int(m->is.rows * m->is.columns);
  size_t of_stacks = size_t(m->pes) * CORES * STACK;
  size_t bytes = of_stacks + size_t(m->pes) * size_t(m->is.local_bytes);
  void* mapped = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) return no_memory(launch, bytes);
  stacks = static_cast<char*>(mapped);
  for (size_t at = 0; at < of_stacks; at += STACK) mprotect(stacks + at, GUARD, PROT_NONE);
  if (!setjmp(m->top)) {
    set_up(stacks + of_stacks);
    run();
    report_stuck();
  }
  launch->cycles = machine.now;
  munmap(stacks, bytes);
  return int(launch->failure);
}

mtia_core_place mtia_place(void* core) {
  Core* c = as_core(core);
  int columns = int(m->is.columns);
  return {c->pe, c->number, c->pe / columns, c->pe % columns, int(m->is.rows), columns};
}

int32_t mtia_buffer(void* core, const char* name, mtia_type type, int64_t elements, int64_t blocks,
                    const char* file, int line) {
  Core* c = as_core(core);
  Pe& pe = m->pe[c->pe];
  int64_t size = elements * work::size_of(type);
  size_t number = c->arrived.size();
  c->arrived.push_back({0, 0});
  if (number < pe.rings.size()) {
    const Ring& known = pe.rings[number];
    if (known.name != name || known.type != type || known.elements != elements || known.blocks != blocks)
      fail(Failure::FAULT, file, line, "core %d declares buffer '%s' where core %d has '%s'; both cores "
           "must declare the same buffers in the same order", c->number, name, 1 - c->number,
           known.name.c_str());
    return int32_t(number);
  }
  if (elements <= 0 || blocks <= 0 || size % ALIGNMENT)
    fail(Failure::FAULT, file, line, "buffer '%s' has %ld blocks of %ld bytes; blocks must be multiples "
         "of %ld bytes, and at least one", name, long(blocks), long(size), long(ALIGNMENT));
  if (pe.used + size * blocks > int64_t(m->is.local_bytes))
    fail(Failure::FAULT, file, line, "local memory overflow: buffer '%s' needs %ld bytes (%ld blocks of "
         "%ld) beside %ld of other buffers; a PE has %ld", name, long(size * blocks), long(blocks),
         long(size), long(pe.used), long(m->is.local_bytes));
  Ring ring{name, type, elements, blocks, pe.local + pe.used, {}};
  for (int64_t i = 0; i < blocks; i++) ring.slots.push_back({i, -1, {}});
  pe.rings.push_back(ring);
  pe.used += size * blocks;
  return int32_t(number);
}

int64_t mtia_front(void* core, int32_t buffer) { return ring_at(as_core(core), buffer).pops; }
int64_t mtia_back(void* core, int32_t buffer) { return ring_at(as_core(core), buffer).pushes; }

void mtia_push(void* core, int32_t buffer, const char* file, int line) {
  Core* c = as_core(core);
  catch_up(c, file, line);
  Ring& ring = ring_at(c, buffer);
  mtia_operand block{buffer, 1, ring.pushes, 0, 0, ring.type};
  check(c->pe, c->number, block, true, touch_free(file, line));
  ring.pushes++;
  spend(c, m->is.element_cycles);
  recycle(ring, ring.slot(block.sequence));
  settle(c->pe);
}

void mtia_pop(void* core, int32_t buffer, const char* file, int line) {
  Core* c = as_core(core);
  catch_up(c, file, line);
  Ring& ring = ring_at(c, buffer);
  mtia_operand block{buffer, 0, ring.pops, 0, 0, ring.type};
  check(c->pe, c->number, block, false, touch_free(file, line));
  ring.pops++;
  spend(c, m->is.element_cycles);
  recycle(ring, ring.slot(block.sequence));
  settle(c->pe);
}

void mtia_issue(void* core, const mtia_command* command) {
  Core* c = as_core(core);
  catch_up(c, command->file, command->line);
  for (int i = 0; i < command->inputs; i++) check(c->pe, c->number, command->input[i], false, *command);
  if (command->has_output) check(c->pe, c->number, command->output, true, *command);
  if (command->unit >= ENGINES) return on_core(c, *command);
  if (double(m->pe[c->pe].engines[command->unit].queue.size()) >= m->is.queue_commands) {
    c->engine = command->unit;
    wait_for(c, Wait::QUEUE);
  }
  enqueue(c, *command);
}

void mtia_wait(void* core, const mtia_operand* block, const char* file, int line) {
  Core* c = as_core(core);
  catch_up(c, file, line);
  c->block = {block->buffer, block->filling, block->sequence, 0, 0, block->type};
  check(c->pe, c->number, c->block, false, touch_free(file, line));
  wait_for(c, Wait::BLOCK);
  int64_t& arrived = c->arrived[block->buffer][block->filling];
  arrived = std::max(arrived, block->sequence + 1);
}

void* mtia_element(void* core, const mtia_operand* block, int64_t index, int writes, const char* file,
                   int line) {
  Core* c = as_core(core);
  mtia_operand one = *block;
  one.offset += index, one.elements = 1;
  catch_up(c, file, line);
  check(c->pe, c->number, one, writes, touch(c, file, line));
  Slot& slot = ring_of(c->pe, one).slot(one.sequence);
  if (writes) slot.written = one.sequence;
  spend(c, m->is.element_cycles);
  return first(c->pe, one);
}

const void* mtia_load(void* core, uint64_t origin, uint64_t address, int64_t bytes, const char* file,
                      int line) {
  Core* c = as_core(core);
  catch_up(c, file, line);
  mtia_command load = touch(c, file, line);
  load.origin = origin;
  spend(c, m->is.gather_cycles + miss(*c, address, bytes, load));
  return reinterpret_cast<const void*>(address);
}

void mtia_drain(void* core, const char* file, int line) {
  Core* c = as_core(core);
  catch_up(c, file, line);
  wait_for(c, Wait::DRAIN);
}

void mtia_barrier(void* core, const char* file, int line) {
  mtia_drain(core, file, line);
  Core* c = as_core(core);
  catch_up(c, file, line);
  meet_all(c);
}

void mtia_work(void* core, double cycles, const char* file, int line) {
  Core* c = as_core(core);
  c->file = file, c->line = line;
  spend(c, std::max(0.0, cycles));
}
}
