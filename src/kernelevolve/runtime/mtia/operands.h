// When a command may use a block, and what is wrong with how it does.
#pragma once
#include "state.h"

namespace simulator {

enum class Lack { NONE, ROOM, INPUT, ORDER };

inline Ring& ring_of(int pe, const mtia_operand& o) { return m->pe[pe].rings[o.buffer]; }

inline bool writes(const std::vector<Use>& uses, int64_t sequence) {
  for (const Use& use : uses)
    if (use.sequence == sequence && use.filling && use.write) return true;
  return false;
}

// What keeps a command of this order from using a block.
inline Lack lack(int pe, const mtia_operand& o, int64_t order, bool write) {
  Ring& ring = ring_of(pe, o);
  Slot& slot = ring.slot(o.sequence);
  if (slot.sequence < o.sequence) return o.filling ? Lack::ROOM : Lack::INPUT;
  if (!o.filling && (o.sequence >= ring.pushes || writes(slot.uses, o.sequence))) return Lack::INPUT;
  for (const Use& use : slot.uses)
    if (use.sequence == o.sequence && use.filling == bool(o.filling) && use.order < order &&
        (write || use.write))
      return Lack::ORDER;
  return Lack::NONE;
}

inline Lack lack(const Command& command, const mtia_operand** which) {
  const mtia_command& c = command.c;
  for (int i = 0; i < c.inputs; i++) {
    *which = &c.input[i];
    Lack found = lack(command.pe, c.input[i], command.order, false);
    if (found != Lack::NONE) return found;
  }
  *which = &c.output;
  return c.has_output ? lack(command.pe, c.output, command.order, true) : Lack::NONE;
}

inline std::string told(const char* format, ...) {
  char text[512];
  va_list rest;
  va_start(rest, format);
  vsnprintf(text, sizeof text, format, rest);
  va_end(rest);
  return text;
}

inline const char* name_of(const char* file) {
  const char* slash = strrchr(file, '/');
  return slash ? slash + 1 : file;
}

inline std::string explained(int pe, const mtia_operand& o, Lack lack) {
  Ring& ring = ring_of(pe, o);
  const char* name = ring.name.c_str();
  if (lack == Lack::ROOM)
    return told("room in buffer '%s' (%ld blocks; %ld were pushed and %ld popped)", name,
                long(ring.blocks), long(ring.pushes), long(ring.pops));
  if (lack == Lack::ORDER) return told("earlier commands on a block of buffer '%s'", name);
  const char* pushed = o.sequence < ring.pushes ? "pushed, and not complete" : "not pushed";
  return told("block %ld of buffer '%s' (%s)", long(o.sequence), name, pushed);
}

inline void check(int pe, int core, const mtia_operand& o, bool write, const mtia_command& c) {
  if (o.buffer < 0 || size_t(o.buffer) >= m->pe[pe].rings.size())
    fail(Failure::FAULT, c.file, c.line, "a block of no buffer");
  Ring& ring = ring_of(pe, o);
  const char* name = ring.name.c_str();
  if (o.offset < 0 || o.elements < 0 || o.offset + o.elements > ring.elements)
    fail(Failure::FAULT, c.file, c.line,
         "out of bounds: elements %ld to %ld of a block of buffer '%s', which has %ld",
         long(o.offset), long(o.offset + o.elements), name, long(ring.elements));
  if (c.unit < ENGINES && o.offset * work::size_of(ring.type) % ALIGNMENT)
    fail(Failure::FAULT, c.file, c.line,
         "misaligned: element %ld of a block of buffer '%s' is at byte %ld, which is no multiple "
         "of %ld", long(o.offset), name, long(o.offset * work::size_of(ring.type)), long(ALIGNMENT));
  int& side = o.filling ? ring.producer : ring.consumer;
  if (side < 0) side = core;
  if (side != core)
    fail(Failure::FAULT, c.file, c.line, "buffer '%s' has two %s: core %d and core %d", name,
         o.filling ? "producers" : "consumers", side, core);
  if (o.sequence < (o.filling ? ring.pushes : ring.pops))
    fail(Failure::FAULT, c.file, c.line, "uses block %ld of buffer '%s' after it was %s",
         long(o.sequence), name, o.filling ? "pushed" : "popped");
  if (c.unit >= ENGINES) {
    const auto& arrived = m->pe[pe].cores[core].arrived[o.buffer];
    if (arrived[o.filling] <= o.sequence)
      fail(Failure::FAULT, c.file, c.line,
           "use before arrival: core %d touches block %ld of buffer '%s' without core.wait(%s.%s)",
           core, long(o.sequence), name, name, o.filling ? "back()" : "front()");
    if (lack(pe, o, m->orders, write) != Lack::NONE)
      fail(Failure::FAULT, c.file, c.line,
           "use before arrival: core %d touches block %ld of buffer '%s' while commands that it "
           "issued after core.wait work on it", core, long(o.sequence), name);
  }
}

inline char* first(int pe, const mtia_operand& o) {
  Ring& ring = ring_of(pe, o);
  int64_t size = work::size_of(ring.type);
  return ring.memory + (o.sequence % ring.blocks) * ring.elements * size + o.offset * size;
}

// Addresses of output and inputs, once nothing lacks.
inline std::array<char*, 4> addresses(int pe, const mtia_command& c) {
  std::array<char*, 4> at{};
  for (int i = 0; i < c.inputs; i++) {
    const mtia_operand& o = c.input[i];
    Ring& ring = ring_of(pe, o);
    if (ring.slot(o.sequence).written != o.sequence)
      fail(Failure::FAULT, c.file, c.line, "reads block %ld of buffer '%s', into which nothing was "
           "written", long(o.sequence), ring.name.c_str());
    at[i + 1] = first(pe, o);
  }
  if (c.has_output) {
    const mtia_operand& o = c.output;
    ring_of(pe, o).slot(o.sequence).written = o.sequence;
    at[0] = first(pe, o);
  }
  return at;
}

// A block whose use has ended gives its memory to the one that comes `blocks` later.
inline void recycle(Ring& ring, Slot& slot) {
  if (slot.sequence >= ring.pushes || slot.sequence >= ring.pops) return;
  for (const Use& use : slot.uses)
    if (use.sequence == slot.sequence) return;
  slot.sequence += ring.blocks;
  recycle(ring, slot);
}

inline void use(Command& command, bool begins) {
  const mtia_command& c = command.c;
  auto one = [&](const mtia_operand& o, bool write) {
    Ring& ring = ring_of(command.pe, o);
    Slot& slot = ring.slot(o.sequence);
    if (begins) {
      slot.uses.push_back({command.order, o.sequence, write, bool(o.filling)});
      return;
    }
    std::erase_if(slot.uses, [&](const Use& use) { return use.order == command.order; });
    recycle(ring, slot);
  };
  for (int i = 0; i < c.inputs; i++) one(c.input[i], false);
  if (c.has_output) one(c.output, true);
}

}  // namespace simulator
