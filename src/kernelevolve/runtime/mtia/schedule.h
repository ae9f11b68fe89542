// When commands start and end, and when cores go on.
#pragma once
#include "engines.h"

namespace simulator {

inline void try_start(int pe, int engine);

// ---- cores

inline void leave() {
  if (!setjmp(m->self->at)) longjmp(m->scheduler, 1);
}

// A core runs ahead of the machine until it touches what others see.
inline void catch_up(Core* core, const char* file, int line) {
  core->file = file, core->line = line;
  if (core->time <= m->now) return;
  schedule(core->time, What::RESUME, core->pe * CORES + core->number);
  leave();
}

inline void spend(Core* core, double cycles) {
  double begun = std::max(core->time, m->now);
  core->time = begun + cycles;
  m->launch->busy[MTIA_CORE0 + core->number] += cycles;
  if (core->time > m->launch->most_cycles) fail(Failure::TIME, core->file, core->line, " ");
}

inline bool satisfied(const Core& core) {
  switch (core.wait) {
    case Wait::QUEUE:
      return double(m->pe[core.pe].engines[core.engine].queue.size()) < m->is.queue_commands;
    case Wait::BLOCK: return lack(core.pe, core.block, m->orders, true) == Lack::NONE;
    case Wait::DRAIN: return core.done == core.issued;
    default: return false;
  }
}

inline void go_on(Core& core) {
  core.wait = Wait::NONE;
  m->launch->stalled[MTIA_CORE0 + core.number] += m->now - core.waiting_since;
  core.time = m->now;
  schedule(m->now, What::RESUME, core.pe * CORES + core.number);
}

inline void wait_for(Core* core, Wait wait) {
  core->wait = wait;
  core->waiting_since = m->now;
  if (satisfied(*core)) core->wait = Wait::NONE;
  else leave();
}

inline void meet_all(Core* core) {
  core->wait = Wait::BARRIER;
  core->waiting_since = m->now;
  if (++m->at_barrier < m->pes * CORES) return leave();
  m->at_barrier = 0;
  for (Pe& pe : m->pe)
    for (Core& other : pe.cores) go_on(other);
  leave();
}

inline void settle(int pe) {
  for (int engine = 0; engine < ENGINES; engine++) try_start(pe, engine);
  for (Core& core : m->pe[pe].cores)
    if (core.wait != Wait::NONE && satisfied(core)) go_on(core);
}

// For what a core does to a buffer, not to what is in a block.
inline mtia_command touch_free(const char* file, int line) {
  mtia_command made{};
  made.file = file, made.line = line;
  return made;
}

inline void on_core(Core* core, const mtia_command& c) {
  if (core->number < CORES - int(m->is.vector_cores))
    fail(Failure::FAULT, c.file, c.line, "core %d of a PE is scalar; the vector core is core 1",
         core->number);
  auto at = addresses(core->pe, c);
  double begun = m->now;
  spend(core, m->is.issue_cycles + (c.kind == MTIA_GATHER ? gather(*core, c, at) : perform(c, at)));
  record(begun, core->time, core->pe, c.unit, c.kind, c.line);
}

// ---- commands whose engines meet: reads of a group, sums between neighbours

inline std::array<int64_t, 4> meeting_of(const Command& command) {
  const mtia_command& c = command.c;
  int64_t columns = int64_t(m->is.columns), pe = command.pe;
  if (c.unit == MTIA_READ)
    return {c.group, c.group == 1 ? pe / columns : pe % columns, command.number, 0};
  const int64_t steps[] = {-1, 1, -columns, columns};
  int64_t other = pe + steps[c.side];
  bool sends = c.kind == MTIA_SEND;
  return {3, sends ? pe : other, sends ? other : pe, command.number};
}

inline size_t members(const mtia_command& c) {
  if (c.unit == MTIA_RE) return 2;
  return size_t(c.group == 1 ? m->is.columns : m->is.rows);
}

inline bool fits(const mtia_command& a, const mtia_command& b) {
  if (a.unit == MTIA_RE) return a.columns == b.columns;
  return a.address == b.address && a.rows == b.rows && a.columns == b.columns &&
         a.stride == b.stride && a.pitch == b.pitch;
}

inline bool meets(const mtia_command& c) { return c.unit == MTIA_RE || (c.unit == MTIA_READ && c.group); }

// Whether all are here with whom a command must start; it then leads them.
inline bool met(int64_t id) {
  Command& command = m->commands[id];
  if (!meets(command.c)) return true;
  if (command.arrived) return false;
  command.arrived = true;
  auto key = meeting_of(command);
  std::vector<int64_t>& here = m->meetings[key];
  for (int64_t other : here)
    if (!fits(command.c, m->commands[other].c))
      fail(Failure::FAULT, command.c.file, command.c.line,
           command.c.unit == MTIA_RE ? "a PE sends another number of sums than its neighbour receives"
                                     : "PEs of a group read different tiles together");
  here.push_back(id);
  if (here.size() < members(command.c)) return false;
  here.pop_back();
  command.others = here;
  m->meetings.erase(key);
  return true;
}

inline int neighbour(const Core& core, const mtia_command& c) {
  int columns = int(m->is.columns), row = core.pe / columns, column = core.pe % columns;
  bool none[] = {column == 0, column == columns - 1, row == 0, row == int(m->is.rows) - 1};
  if (none[c.side])
    fail(Failure::FAULT, c.file, c.line, "PE %d has no neighbour there: it is at the grid's edge", core.pe);
  return c.side;
}

inline void enqueue(Core* core, const mtia_command& c) {
  Pe& pe = m->pe[core->pe];
  int64_t id = int64_t(m->commands.size());
  if (m->unused.empty()) m->commands.emplace_back();
  else id = m->unused.back(), m->unused.pop_back();
  Command& command = m->commands[id];
  command = {c, m->orders++, 0, core->pe, core->number, 0, false, 0, 0, {}};
  if (c.unit == MTIA_READ && c.group) command.number = pe.group_reads[c.group]++;
  if (c.unit == MTIA_RE)
    command.number = (c.kind == MTIA_SEND ? pe.sends : pe.receives)[neighbour(*core, c)]++;
  core->issued++;
  use(command, true);
  pe.engines[c.unit].queue.push_back(id);
  spend(core, m->is.issue_cycles);
  try_start(core->pe, c.unit);
}

// ---- engines

inline double reduce(const Command& one, const Command& other, char* const* at, char* const* at_other) {
  bool sends = one.c.kind == MTIA_SEND;
  const mtia_operand& o = sends ? one.c.input[0] : one.c.output;
  const mtia_operand& p = sends ? other.c.output : other.c.input[0];
  if (o.type != p.type)
    fail(Failure::FAULT, one.c.file, one.c.line, "a PE sends sums of another type than are received");
  work::add_to(o.type, sends ? at_other[0] : at[0], sends ? at[1] : at_other[1], one.c.columns);
  return double(one.c.columns * work::size_of(o.type)) / m->is.link_rate;
}

inline void begin_transfer(int64_t id, const std::array<char*, 4>& at) {
  Command& command = m->commands[id];
  Traffic traffic = move(command.c, at);
  command.latency = traffic.dram > 0 ? m->is.dram_latency : m->is.sram_latency;
  if (traffic.bytes > 0) command.flows++, m->sram.begin(m->now, traffic.bytes, id);
  if (traffic.dram > 0) command.flows++, m->dram.begin(m->now, traffic.dram, id);
  if (!command.flows) schedule(m->now, What::FREE, id);
}

inline void occupy(Command& command) {
  Engine& engine = m->pe[command.pe].engines[command.c.unit];
  if (engine.blocked_since >= 0) m->launch->stalled[command.c.unit] += m->now - engine.blocked_since;
  engine.blocked_since = -1;
  engine.queue.pop_front();
  if (!engine.running++) engine.busy_since = m->now;
  command.started = m->now;
}

inline void check_sums(const Command& command) {
  const mtia_command& c = command.c;
  if (c.kind != MTIA_RECEIVE && !(c.kind == MTIA_MULTIPLY && c.op)) return;
  Ring& ring = ring_of(command.pe, c.output);
  if (ring.slot(c.output.sequence).written != c.output.sequence)
    fail(Failure::FAULT, c.file, c.line, "adds to block %ld of buffer '%s', into which nothing was "
         "written", long(c.output.sequence), ring.name.c_str());
}

inline void start(int64_t id) {
  Command& command = m->commands[id];
  check_sums(command);
  auto at = addresses(command.pe, command.c);
  occupy(command);
  command.latency = latency_of(command.c);
  if (command.c.unit == MTIA_RE) {
    Command& other = m->commands[command.others[0]];
    check_sums(other);
    auto at_other = addresses(other.pe, other.c);
    occupy(other);
    schedule(m->now + reduce(command, other, at.data(), at_other.data()), What::FREE, id);
  } else if (command.c.unit <= MTIA_WRITE) {
    begin_transfer(id, at);
    for (int64_t other_id : command.others) {
      Command& other = m->commands[other_id];
      auto there = addresses(other.pe, other.c);
      occupy(other);
      other.latency = command.latency;
      memcpy(there[0], at[0], size_t(command.c.output.elements * work::size_of(command.c.output.type)));
    }
  } else {
    schedule(m->now + perform(command.c, at), What::FREE, id);
  }
}

inline void try_start(int pe, int which) {
  Engine& engine = m->pe[pe].engines[which];
  int most = which <= MTIA_WRITE ? int(m->is.transfers) : 1;
  while (engine.running < most && !engine.queue.empty()) {
    int64_t id = engine.queue.front();
    const mtia_operand* lacking;
    if (lack(m->commands[id], &lacking) != Lack::NONE || !met(id)) {
      if (!engine.running && engine.blocked_since < 0) engine.blocked_since = m->now;
      return;
    }
    start(id);
    for (int64_t other : m->commands[id].others) try_start(m->commands[other].pe, which);
  }
}

inline void release(int64_t id) {  // engines, that of a command and of those that it leads
  std::vector<int64_t> all = std::move(m->commands[id].others);
  all.push_back(id);
  for (int64_t one : all) {
    Command& command = m->commands[one];
    Engine& engine = m->pe[command.pe].engines[command.c.unit];
    record(command.started, m->now, command.pe, command.c.unit, command.c.kind, command.c.line);
    if (!--engine.running) {
      m->launch->busy[command.c.unit] += m->now - engine.busy_since;
      if (!engine.queue.empty()) engine.blocked_since = m->now;
    }
    schedule(m->now + command.latency, What::DONE, one);
  }
  for (int64_t one : all) settle(m->commands[one].pe);
}

inline void moved(int64_t id) {
  if (--m->commands[id].flows == 0) release(id);
}

inline void end(int64_t id) {
  Command& command = m->commands[id];
  use(command, false);
  m->pe[command.pe].cores[command.core].done++;
  m->unused.push_back(id);
  settle(command.pe);
}

// ---- what went wrong

inline std::string reason(const Command& command) {
  const mtia_operand* o;
  Lack found = lack(command, &o);
  if (found != Lack::NONE) return explained(command.pe, *o, found);
  return command.c.unit == MTIA_RE ? "its neighbour" : "the other PEs of its group";
}

inline std::string reason(const Core& core) {
  if (core.wait == Wait::BARRIER) return told("all cores at the barrier; %d of %d are there",
                                              m->at_barrier, m->pes * CORES);
  if (core.wait == Wait::DRAIN) return "commands that it issued";
  if (core.wait == Wait::QUEUE) return told("room in the queue of %s", unit_name(core.engine));
  return explained(core.pe, core.block, lack(core.pe, core.block, m->orders, true));
}

// Who waits for what in one PE.
inline std::string stuck(const Pe& pe, const char** file, int* line) {
  std::string found;
  auto add = [&](const char* who, const std::string& why, const char* in, int at) {
    if (found.empty()) *file = in, *line = at;
    found += told("%s%s (%s:%d) waits for ", found.empty() ? "" : "; ", who, name_of(in), at) + why;
  };
  for (const Core& core : pe.cores)
    if (!core.ended)
      add(unit_name(MTIA_CORE0 + core.number), reason(core), core.file, core.line);
  for (int engine = 0; engine < ENGINES; engine++)
    if (!pe.engines[engine].queue.empty()) {
      const Command& command = m->commands[pe.engines[engine].queue.front()];
      add(unit_name(engine), reason(command), command.c.file, command.c.line);
    }
  return found;
}

inline void report_stuck() {
  std::string first;
  const char* file = "";
  int line = 0, count = 0, which = 0;
  for (int i = 0; i < m->pes; i++) {
    const char* in = "";
    int at = 0;
    std::string found = stuck(m->pe[i], &in, &at);
    if (found.empty()) continue;
    if (!count++) first = found, file = in, line = at, which = i;
  }
  if (count)
    fail(Failure::DEADLOCK, file, line, "deadlock: in PE %d %s; %d of %d PEs are stuck", which,
         first.c_str(), count, m->pes);
}

[[noreturn]] inline void out_of_time() {
  for (const Pe& pe : m->pe)
    for (const Core& core : pe.cores)
      if (!core.ended) fail(Failure::TIME, core.file, core.line, " ");
  fail(Failure::TIME, "", 0, " ");
}

}  // namespace simulator
