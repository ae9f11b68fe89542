// Each kernel does one thing wrong, in the line that its name marks.
#include <mtia.h>
using namespace mtia;

void too_large(Core& core, Global<float> x) {
  auto a = core.buffer<float>("small", 1024, 2);
  auto b = core.buffer<float>("large", 65536, 2);  // too_large
}
MTIA_KERNEL(too_large)

void odd_block(Core& core, Global<float> x) {
  auto a = core.buffer<float>("odd", 7, 2);  // odd_block
}
MTIA_KERNEL(odd_block)

void stuck(Core& core, Global<const float> x) {
  auto a = core.buffer<float>("in", 64, 2);
  auto b = core.buffer<float>("out", 64, 2);
  if (core.pe) return;
  if (core.number == 0) {
    for (int i = 0; i < 3; i++) {
      core.fi.read(a.back(), x, 64);
      a.push();
    }
    core.drain();
  } else {
    core.wait(b.front());  // stuck
  }
}
MTIA_KERNEL(stuck)

void missing_at_barrier(Core& core, Global<float> x) {
  if (core.pe == 3) return;
  core.barrier();  // missing_at_barrier
}
MTIA_KERNEL(missing_at_barrier)

void misaligned(Core& core, Global<const float> x) {
  auto a = core.buffer<float>("in", 64, 2);
  if (core.number || core.pe) return;
  core.fi.read(a.back() + 1, x, 8);  // misaligned
}
MTIA_KERNEL(misaligned)

void misaligned_write(Core& core, Global<float> x) {
  auto a = core.buffer<float>("in", 64, 2);
  if (core.number || core.pe) return;
  core.fi.read<float>(a.back(), x, 8);
  a.push();
  core.fi.write(x + 1, a.front(), 8);  // misaligned_write
  a.pop();
}
MTIA_KERNEL(misaligned_write)

void beyond_tensor(Core& core, Global<const float> x) {
  auto a = core.buffer<float>("in", 64, 2);
  if (core.number || core.pe) return;
  core.fi.read(a.back(), x + 40, 32);  // beyond_tensor
}
MTIA_KERNEL(beyond_tensor)

void into_the_next(Core& core, Global<const float> x) {
  auto a = core.buffer<float>("in", 64, 2);
  if (core.number || core.pe) return;
  core.fi.read(a.back(), x + -8, 32);  // into_the_next
}
MTIA_KERNEL(into_the_next)

void narrow_pitch(Core& core, Global<const float> x) {
  auto a = core.buffer<float>("in", 64, 2);
  if (core.number || core.pe) return;
  core.fi.read(a.back(), x, 2, 32, 32, 8);  // narrow_pitch
}
MTIA_KERNEL(narrow_pitch)

void beyond_block(Core& core, Global<const float> x) {
  auto a = core.buffer<float>("in", 32, 2);
  if (core.number || core.pe) return;
  core.fi.read(a.back(), x, 64);  // beyond_block
}
MTIA_KERNEL(beyond_block)

void too_early(Core& core, Global<const float> x) {
  auto a = core.buffer<float>("in", 64, 2);
  if (core.number || core.pe) return;
  core.fi.read(a.back(), x, 64);
  a.push();
  core.work(a.front().get(0));  // too_early
}
MTIA_KERNEL(too_early)

void again_too_early(Core& core, Global<const float> x) {
  auto a = core.buffer<float>("in", 64, 2);
  if (core.number || core.pe) return;
  core.fi.read(a.back(), x, 64);
  a.push();
  core.wait(a.front());
  core.se.map(Op::exp, a.front(), a.front(), 64);
  core.work(a.front().get(0));  // again_too_early
}
MTIA_KERNEL(again_too_early)

void unwritten(Core& core, Global<float> x) {
  auto a = core.buffer<float>("in", 64, 2);
  if (core.number || core.pe) return;
  a.push();
  core.fi.write(x, a.front(), 64);  // unwritten
}
MTIA_KERNEL(unwritten)

void after_pop(Core& core, Global<float> x) {
  auto a = core.buffer<float>("in", 64, 2);
  if (core.number || core.pe) return;
  core.fi.read<float>(a.back(), x, 64);
  a.push();
  auto block = a.front();
  a.pop();
  core.fi.write(x, block, 64);  // after_pop
}
MTIA_KERNEL(after_pop)

void two_producers(Core& core, Global<const float> x) {
  auto a = core.buffer<float>("in", 64, 2);
  if (core.pe) return;
  core.work(100 * core.number);
  core.fi.read(a.back(), x, 64);  // two_producers
  a.push();
}
MTIA_KERNEL(two_producers)

void other_buffers(Core& core, Global<const float> x) {
  auto a = core.buffer<float>(core.number ? "one" : "other", 64, 2);  // other_buffers
}
MTIA_KERNEL(other_buffers)

void scalar_core(Core& core, Global<const float> x) {
  auto a = core.buffer<float>("in", 64, 2);
  if (core.number || core.pe) return;
  core.fi.read(a.back(), x, 64);
  core.wait(a.back());
  core.vector.map(Op::exp, a.back(), a.back(), 64);  // scalar_core
}
MTIA_KERNEL(scalar_core)

void other_tiles(Core& core, Global<const float> x) {
  auto a = core.buffer<float>("in", 32, 2);
  if (core.number || core.row) return;
  core.fi.read(a.back(), x + core.column % 2 * 8, 32, Group::row);  // other_tiles
}
MTIA_KERNEL(other_tiles)

void off_the_grid(Core& core, Global<const float> x) {
  auto a = core.buffer<float>("in", 64, 2);
  if (core.number || core.pe) return;
  core.fi.read(a.back(), x, 64);
  a.push();
  core.re.send(Side::up, a.front(), 64);  // off_the_grid
}
MTIA_KERNEL(off_the_grid)

void narrow_product(Core& core, Global<const half> x) {
  auto a = core.buffer<half>("a", 64, 1);
  auto sums = core.buffer<float>("sums", 64, 1);
  if (core.number || core.pe) return;
  core.fi.read(a.back(), x, 64);
  core.dpe.multiply(sums.back(), a.back(), a.back(), 4, 4, 10, false);  // narrow_product
}
MTIA_KERNEL(narrow_product)

void float_product(Core& core, Global<const float> x) {
  auto a = core.buffer<float>("a", 64, 1);
  auto sums = core.buffer<float>("sums", 64, 1);
  if (core.number || core.pe) return;
  core.fi.read(a.back(), x, 64);
  core.dpe.multiply(sums.back(), a.back(), a.back(), 4, 4, 8, false);  // float_product
}
MTIA_KERNEL(float_product)

void endless(Core& core, Global<const float> x) {
  auto a = core.buffer<float>("in", 64, 2);
  if (core.number || core.pe) return;
  for (;;) core.work(1e6);  // endless
}
MTIA_KERNEL(endless)

void endless_waiting(Core& core, Global<const float> x) {
  auto a = core.buffer<float>("in", 64, 2);
  for (;;) {
    if (core.number == 0) {
      core.fi.read(a.back(), x, 64);
      a.push();
    } else {
      core.work(1e5);  // endless_waiting
      a.pop();
    }
  }
}
MTIA_KERNEL(endless_waiting)
