// KernelEvolve's MapIdTransform: each program of 256 values searches a sorted table in 20 steps
// without a branch; index + 1 where the value is there, else 0.
#include <mtia.h>
using namespace mtia;

constexpr int64_t BLOCK = 256, STEPS = 20;

void map_id(Core& core, Global<const int64_t> values, Global<const int64_t> table,
            Global<int64_t> out, int64_t n, int64_t entries) {
  if (core.number == 0) return;
  auto value = core.buffer<int64_t>("value", BLOCK, 1);
  auto low = core.buffer<int64_t>("low", BLOCK, 1);
  auto high = core.buffer<int64_t>("high", BLOCK, 1);
  auto middle = core.buffer<int64_t>("middle", BLOCK, 1);
  auto found = core.buffer<int64_t>("found", BLOCK, 1);
  const Vector& v = core.vector;
  for (int64_t at = core.pe * BLOCK; at < n; at += core.pes * BLOCK) {
    int64_t count = std::min(BLOCK, n - at);
    core.fi.read(value.back(), values + at, count);
    auto lo = low.back(), hi = high.back(), mid = middle.back(), x = found.back(), y = value.back();
    core.wait(y), core.wait(lo), core.wait(hi), core.wait(mid), core.wait(x);
    v.map(Op::mul, lo, y, 0, count);
    v.map(Op::add, hi, lo, double(entries - 1), count);
    for (int64_t step = 0; step < STEPS; step++) {
      v.map(Op::add, mid, lo, hi, count);
      v.map(Op::shift_right, mid, mid, 1, count);
      v.gather(x, table, mid, count);
      v.map(Op::less, x, x, y, count);
      v.select(hi, x, hi, mid, count);
      v.map(Op::add, mid, mid, 1, count);
      v.map(Op::min, mid, mid, double(entries - 1), count);
      v.select(lo, x, mid, lo, count);
    }
    v.gather(x, table, lo, count);
    v.map(Op::equal, x, x, y, count);
    v.map(Op::add, lo, lo, 1, count);
    v.map(Op::mul, x, x, lo, count);
    found.push();
    core.fi.write(out + at, found.front(), count);
    found.pop();
    value.push(), value.pop(), low.push(), low.pop(), high.push(), high.pop();
    middle.push(), middle.pop();
  }
}
MTIA_KERNEL(map_id)
