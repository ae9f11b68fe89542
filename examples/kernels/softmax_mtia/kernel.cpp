// Softmax of eight rows at a time in each PE: core 0 reads ahead, core 1 computes in place.
#include <mtia.h>
using namespace mtia;

constexpr int64_t ROWS = 8;  // of float32 are a multiple of 32 bytes, whatever their length

void softmax(Core& core, Global<const float> x, Global<float> out, int64_t rows, int64_t columns) {
  auto block = core.buffer<float>("block", ROWS * columns, 2);
  auto of_row = core.buffer<float>("of_row", ROWS, 1);
  for (int64_t row = core.pe * ROWS; row < rows; row += core.pes * ROWS) {
    int64_t count = std::min(ROWS, rows - row), n = count * columns;
    if (core.number == 0) {
      core.fi.read(block.back(), x + row * columns, n);
      block.push();
      continue;
    }
    auto here = block.front();
    auto values = of_row.back();
    core.se.fold(Op::max, values, here, count, columns);
    core.se.rows(Op::sub, here, here, values, count, columns);
    core.wait(here);
    core.vector.map(Op::exp, here, here, n);
    core.se.fold(Op::add, values, here, count, columns);
    core.se.rows(Op::div, here, here, values, count, columns);
    core.fi.write(out + row * columns, here, n);
    block.pop();
  }
}
MTIA_KERNEL(softmax)
