// What a command does when it starts, and how long it takes.
#pragma once
#include <cmath>

#include "operands.h"

namespace simulator {

constexpr int64_t INSTRUCTIONS = 3;  // of a vector loop: load, operate, store
constexpr double NO_LATENCY = 0;

inline const mtia_region& region_of(const mtia_command& c) {
  const mtia_region* found = nullptr;
  for (int64_t i = 0; i < m->launch->regions; i++) {
    const mtia_region& r = m->launch->region[i];
    if (r.base == c.origin && (!found || r.bytes > found->bytes)) found = &r;
  }
  if (!found) fail(Failure::FAULT, c.file, c.line, "moves what is no argument of the kernel");
  return *found;
}

inline void within(const mtia_region& region, uint64_t address, int64_t bytes, const mtia_command& c,
                   const char* verb) {
  int64_t begin = int64_t(address - region.base);
  if (begin >= 0 && begin + bytes <= int64_t(region.bytes)) return;
  fail(Failure::FAULT, c.file, c.line, "out of bounds: %s %ld bytes at byte %ld of argument %ld, "
       "which has %ld bytes", verb, long(bytes), long(begin), long(region.argument),
       long(region.bytes));
}

inline bool cached(const mtia_region& region, uint64_t address) {
  int64_t line = int64_t((address - region.base) / uint64_t(m->is.cache_line));
  bool hit = m->cache.touch(m->first_line[&region - m->launch->region] + line);
  (hit ? m->launch->cache_hits : m->launch->cache_misses)++;
  return hit;
}

struct Traffic { double bytes = 0, dram = 0; };

inline void count(Traffic& traffic, const mtia_region& region, uint64_t address, int64_t bytes,
                  bool write) {
  traffic.bytes += double(bytes);
  if (!region.dram) return;
  uint64_t line = uint64_t(m->is.cache_line), begin = (address - region.base) / line * line;
  for (uint64_t at = begin; at < address - region.base + bytes; at += line)
    if (!cached(region, region.base + at) && !write) traffic.dram += double(line);
  if (write) traffic.dram += double(bytes);
}

inline int64_t index_at(const mtia_operand& o, const char* at, int64_t i) {
  int64_t found = 0;
  work::load(o.type, at, i, 1, &found);
  return found;
}

inline void aligned(const mtia_region& region, double unit, const mtia_command& c) {
  int64_t offset = int64_t(c.address - region.base), stride = c.stride, by = int64_t(unit);
  if (offset % by || (c.rows > 1 && stride % by))
    fail(Failure::FAULT, c.file, c.line, "misaligned: %s at byte %ld of argument %ld with rows %ld "
         "bytes apart; both must be multiples of %ld", c.kind == MTIA_OUT ? "writes" : "reads",
         long(offset), long(region.argument), long(stride), long(by));
}

inline Traffic move(const mtia_command& c, const std::array<char*, 4>& at) {
  Traffic traffic;
  bool out = c.kind == MTIA_OUT;
  const mtia_operand& o = out ? c.input[0] : c.output;
  int64_t size = work::size_of(o.type), bytes = c.columns * size;
  if (c.rows <= 0 || c.columns <= 0) return traffic;
  if (c.pitch < c.columns)
    fail(Failure::FAULT, c.file, c.line, "rows of %ld elements do not fit a pitch of %ld",
         long(c.columns), long(c.pitch));
  const mtia_region& region = region_of(c);
  aligned(region, out ? m->is.aligned_writes : m->is.aligned_reads, c);
  for (int64_t row = 0; row < c.rows; row++) {
    int64_t from = c.kind == MTIA_INDEXED ? index_at(c.input[0], at[1], row) : row;
    uint64_t address = c.address + uint64_t(from * c.stride);
    within(region, address, bytes, c, out ? "writes" : "reads");
    count(traffic, region, address, bytes, out);
    char* place = (out ? at[1] : at[0]) + row * c.pitch * size;
    if (out) memcpy(reinterpret_cast<void*>(address), place, bytes);
    else memcpy(place, reinterpret_cast<const void*>(address), bytes);
    if (!out && c.pitch > c.columns) memset(place + bytes, 0, (c.pitch - c.columns) * size);
  }
  (out ? m->launch->written_bytes : m->launch->read_bytes) += traffic.bytes;
  m->launch->dram_bytes += traffic.dram;
  return traffic;
}

inline double up(double a, double b) { return std::ceil(a / b); }

inline double local_bytes(const mtia_command& c) {
  double bytes = c.has_output ? double(c.output.elements * work::size_of(c.output.type)) : 0;
  for (int i = 0; i < c.inputs; i++) bytes += double(c.input[i].elements * work::size_of(c.input[i].type));
  return bytes;
}

// Both tiles of the DPE work on 32 rows of a, 32 of b each, and 32 bytes along k in 32 cycles.
inline double matrix_cycles(const mtia_command& c) {
  double along = double(c.depth * work::size_of(c.input[0].type));
  double macs = m->is.matrix_bytes;  // bytes along k times rows times rows, a cycle
  return up(double(c.rows), 32) * up(double(c.columns), 64) * up(along, 32) * 32 * 64 * 32 / macs;
}

inline void check_matrix(const mtia_command& c) {
  mtia_type type = c.input[0].type;
  if (type == MTIA_I8 ? !m->is.int8 : type != MTIA_F16 && type != MTIA_BF16)
    fail(Failure::FAULT, c.file, c.line, "the DPE of this chip multiplies half, bfloat%s",
         m->is.int8 ? " and int8_t" : "");
  if ((type == MTIA_I8) != (c.output.type == MTIA_I32))
    fail(Failure::FAULT, c.file, c.line, "sums of int8_t are int32_t, all others float");
  if (c.depth * work::size_of(type) % ALIGNMENT)
    fail(Failure::FAULT, c.file, c.line, "misaligned: rows of %ld elements along k are no multiple of "
         "%ld bytes; read them with a wider pitch", long(c.depth), long(ALIGNMENT));
}

inline double vector_operations(const mtia_command& c) {
  if (c.kind == MTIA_FOLD) return 2;  // load, operate
  switch (mtia::Op(c.op)) {
    case mtia::Op::exp: case mtia::Op::log: return INSTRUCTIONS + 14;  // a polynomial of degree 6, scaling
    case mtia::Op::tanh: case mtia::Op::sigmoid: return INSTRUCTIONS + 24;
    case mtia::Op::gelu: return INSTRUCTIONS + 32;
    case mtia::Op::div: case mtia::Op::sqrt: case mtia::Op::rsqrt: case mtia::Op::reciprocal:
      return INSTRUCTIONS + 5;
    default: return INSTRUCTIONS;
  }
}

inline double element_width(const mtia_command& c) {
  int64_t widest = work::size_of(c.output.type);
  for (int i = 0; i < c.inputs; i++) widest = std::max(widest, work::size_of(c.input[i].type));
  return double(widest);
}

inline double vector_cycles(const mtia_command& c) {
  double each = m->is.vector_bytes / element_width(c);
  return double(c.rows) * up(double(c.columns), each) * vector_operations(c);
}

// Elements that the SIMD engine passes in a cycle: all types alike, but int8 twice on the first chip.
inline double simd_cycles(const mtia_command& c) {
  return up(double(c.rows * c.columns), m->is.simd_elements);
}

inline double perform(const mtia_command& c, const std::array<char*, 4>& at) {
  char* const* p = at.data();
  double least = local_bytes(c) / m->is.local_rate;
  switch (c.kind) {
    case MTIA_MAP: case MTIA_FOLD: {
      bool tables = c.unit == MTIA_SE;
      c.kind == MTIA_MAP ? work::map(c, p, tables) : work::fold(c, p);
      return std::max(least, tables ? simd_cycles(c) : vector_cycles(c));
    }
    case MTIA_TRANSPOSE:
      work::transpose(c, p);
      return std::max(least, local_bytes(c) / 2 / m->is.layout_rate);
    case MTIA_MULTIPLY:
      check_matrix(c);
      work::multiply(c, p);
      return matrix_cycles(c);
    default: return 0;
  }
}

inline double latency_of(const mtia_command& c) {
  if (c.unit == MTIA_DPE) return m->is.matrix_latency;
  return c.unit == MTIA_SE ? m->is.simd_latency : NO_LATENCY;
}

// What one element that a core fetches takes beyond its cache.
inline double miss(Core& core, uint64_t address, int64_t bytes, const mtia_command& c) {
  const mtia_region& region = region_of(c);
  within(region, address, bytes, c, "loads");
  bool hit = core.cache.touch((address - region.base) / uint64_t(m->is.core_line) +
                              (uint64_t(region.argument) << 40));
  (hit ? m->launch->core_hits : m->launch->core_misses)++;
  if (hit) return 0;
  m->launch->read_bytes += m->is.core_line;
  if (!region.dram || cached(region, address)) return m->is.sram_latency;
  m->launch->dram_bytes += m->is.cache_line;
  return m->is.dram_latency;
}

inline double gather(Core& core, const mtia_command& c, const std::array<char*, 4>& at) {
  double cycles = 0;
  int64_t size = work::size_of(c.output.type), lanes = int64_t(m->is.gather_lanes);
  for (int64_t i = 0; i < c.rows; i += lanes) {
    double longest = 0;
    for (int64_t j = i; j < std::min(c.rows, i + lanes); j++) {
      uint64_t address = c.address + uint64_t(index_at(c.input[0], at[1], j) * size);
      longest = std::max(longest, miss(core, address, size, c));
      memcpy(at[0] + j * size, reinterpret_cast<const void*>(address), size);
    }
    cycles += m->is.gather_cycles + longest;
  }
  return cycles;
}

}  // namespace simulator
