// What may be read and written where; a part of simt.cpp, behind its machine.
#pragma once

void check_global(uint64_t at, size_t bytes, const char* what, void* pc) {
  auto holds = [=](const simt_region* r) {
    return at >= r->base && at + bytes <= r->base + r->bytes;
  };
  if (m.latest && holds(m.latest)) return;
  const simt_region* near = nullptr;
  uint64_t least = 64 << 20;  // bytes; what is further away has nothing to do with an argument
  bool below = false;
  for (int64_t i = 0; i < m.launch->regions; i++) {
    const simt_region* r = &m.launch->region[i];
    if (holds(r)) {
      m.latest = r;
      return;
    }
    uint64_t end = r->base + r->bytes;
    uint64_t off = at < r->base ? r->base - at : at > end ? at - end : 0;
    if (off < least) least = off, near = r, below = at < r->base;
  }
  if (at >= uint64_t(m.image.begin) && at + bytes <= uint64_t(m.image.end)) return;
  if (at < 4096) fail(pc, "%s %zu bytes through a null pointer", what, bytes);
  if (!near) fail(pc, "%s %zu bytes at an address that belongs to no argument", what, bytes);
  fail(pc, "%s %zu bytes, %llu bytes %s argument %lld, which has %llu bytes", what, bytes,
       (unsigned long long)least, below ? "before" : "past the end of", (long long)near->argument,
       (unsigned long long)near->bytes);
}

bool ordered(uint32_t epoch, uint16_t thread, uint16_t operation) {
  if (epoch < m.epoch || thread == number(m.self)) return true;
  bool same = thread / SIMT_WARP == number(m.self) / SIMT_WARP;
  return same && operation < m.self->operation;
}

[[noreturn]] void blame_reader(const Byte& b, void* pc) {
  m.launch->other_pc = b.read_at;
  if (b.reader == number(m.self))
    fail(pc, "writes shared memory that other threads read, with no barrier between");
  fail(pc, "writes shared memory that thread %d read, with no barrier between", b.reader);
}

void check_shared(size_t offset, size_t bytes, bool writes, bool atomic, void* pc) {
  uint16_t me = uint16_t(number(m.self));
  for (size_t i = offset; i < offset + bytes; i++) {
    Byte& b = m.shadow[i];
    bool mine = b.written >= m.block_epoch;
    if (!writes && !mine)
      fail(pc, "reads shared memory that no thread of the block has written yet");
    if (!atomic && mine && !ordered(b.written, b.writer, b.write_operation)) {
      m.launch->other_pc = b.written_at;
      fail(pc, "%s shared memory that thread %d wrote, with no barrier between",
           writes ? "writes" : "reads", b.writer);
    }
    if (writes) {
      bool read = b.read >= m.block_epoch && b.read == m.epoch;
      bool fine = ordered(b.read, b.reader, b.read_operation) && !(b.readers & WARPS);
      if (!atomic && read && (!fine || ((b.readers & SEVERAL) && b.read_operation >= m.self->operation)))
        blame_reader(b, pc);
      b.written = m.epoch, b.writer = me, b.write_operation = m.self->operation;
      b.written_at = offset_of(pc);
      b.readers = 0, b.read = 0;
    } else {
      if (b.read == m.epoch && b.reader != me) {
        b.readers |= SEVERAL;
        if (b.reader / SIMT_WARP != me / SIMT_WARP) b.readers |= WARPS;
      } else if (b.read != m.epoch) {
        b.readers = 0;
      }
      b.read = m.epoch, b.reader = me, b.read_operation = m.self->operation;
      b.read_at = offset_of(pc);
    }
  }
}

void check(const void* where, size_t bytes, bool writes, bool aligned, bool atomic, void* pc) {
  if (!m.self) return;
  uint64_t at = uint64_t(where);
  if (at - uint64_t(m.stacks) < STACK * MOST_THREADS) return;
  const char* what = writes ? "writes" : "reads";
  if (aligned && bytes > 1 && at % bytes)
    fail(pc, "%s %zu bytes at an address that is no multiple of %zu", what, bytes, bytes);
  uint64_t fixed = at - uint64_t(m.image.shared), dynamic = at - uint64_t(simt_dynamic_memory);
  if (fixed < m.static_shared + BEYOND && m.static_shared) {
    if (fixed + bytes > m.static_shared)
      fail(pc, "%s beyond the shared memory of the block", what);
    check_shared(fixed, bytes, writes, atomic, pc);
  } else if (dynamic < DYNAMIC) {
    if (dynamic + bytes > m.launch->dynamic_shared)
      fail(pc, "%s dynamic shared memory at byte %llu, beyond the %llu that the launch asks for",
           what, (unsigned long long)dynamic, (unsigned long long)m.launch->dynamic_shared);
    check_shared(m.static_shared + dynamic, bytes, writes, atomic, pc);
  } else {
    check_global(at, bytes, what, pc);
  }
}
