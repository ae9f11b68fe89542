// out[m][n] = a[m][k] · b[n][k]: each PE has its part of the grid's rows and columns. PEs of a row
// read the same rows of a, those of a column the same rows of b, each tile once for all of them.
#include <mtia.h>
using namespace mtia;

constexpr int64_t ROWS = 64, COLUMNS = 256, DEPTH = 128;

void gemm(Core& core, Global<const half> a, Global<const half> b, Global<half> out, int64_t m,
          int64_t n, int64_t k) {
  auto left = core.buffer<half>("left", ROWS * DEPTH, 3);
  auto right = core.buffer<half>("right", COLUMNS * DEPTH, 2);
  auto sums = core.buffer<float>("sums", ROWS * COLUMNS, 2);
  auto result = core.buffer<half>("result", ROWS * COLUMNS, 2);
  int64_t rows = m / core.rows, columns = n / core.columns;
  for (int64_t j = core.column * columns; j < (core.column + 1) * columns; j += COLUMNS)
    for (int64_t i = core.row * rows; i < (core.row + 1) * rows; i += ROWS) {
      for (int64_t p = 0; p < k; p += DEPTH) {
        int64_t depth = std::min(DEPTH, k - p);
        if (core.number == 0) {
          core.fi.read(left.back(), a + i * k + p, ROWS, depth, k, depth, Group::row);
          left.push();
          core.fi.read(right.back(), b + j * k + p, COLUMNS, depth, k, depth, Group::column);
          right.push();
        } else {
          core.dpe.multiply(sums.back(), left.front(), right.front(), ROWS, COLUMNS, depth, p > 0);
          left.pop();
          right.pop();
        }
      }
      if (core.number == 0) continue;
      sums.push();
      core.se.map(Op::copy, result.back(), sums.front(), ROWS * COLUMNS);
      sums.pop();
      result.push();
      core.fi.write(out + i * n + j, result.front(), ROWS, COLUMNS, n, COLUMNS);
      result.pop();
    }
}
MTIA_KERNEL(gemm)
