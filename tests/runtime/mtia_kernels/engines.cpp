// One engine after the other, on sizes that are no multiples of anything.
#include <mtia.h>
using namespace mtia;

// Row sums of all PEs travel along the grid's rows and add up: out[row] = sum over its PEs.
void neighbours(Core& core, Global<const float> x, Global<float> out, int64_t n) {
  auto a = core.buffer<float>("a", 64, 1);
  if (core.number) return;
  core.fi.read(a.back(), x + core.pe * n, n);
  if (core.column) core.re.receive(Side::left, a.back(), n);
  a.push();
  if (core.column < core.columns - 1) core.re.send(Side::right, a.front(), n);
  else core.fi.write(out + core.row * 64, a.front(), n);
  a.pop();
}
MTIA_KERNEL(neighbours)

void transpose(Core& core, Global<const float> x, Global<float> out, int64_t rows, int64_t columns) {
  auto a = core.buffer<float>("a", 4096, 1);
  auto b = core.buffer<float>("b", 4096, 1);
  if (core.number || core.pe) return;
  core.fi.read(a.back(), x, rows * columns);
  a.push();
  core.mlu.transpose(b.back(), a.front(), rows, columns);
  b.push();
  core.fi.write(out, b.front(), rows * columns);
}
MTIA_KERNEL(transpose)

// Rows of a table by index, summed two by two, with padding between rows.
void bags(Core& core, Global<const half> table, Global<const int32_t> indices, Global<half> out,
          int64_t n, int64_t width) {
  auto index = core.buffer<int32_t>("index", 256, 1);
  auto rows = core.buffer<half>("rows", 4096, 1);
  auto flat = core.buffer<half>("flat", 4096, 1);
  auto sums = core.buffer<half>("sums", 2048, 1);
  if (core.number || core.pe) return;
  core.fi.read(index.back(), indices, n);
  index.push();
  core.fi.gather(rows.back(), table, index.front(), n, width);
  rows.push();
  core.mlu.transpose(flat.back(), rows.front(), n, width);
  flat.push();
  core.se.fold(Op::add, sums.back(), flat.front(), n * width / 2, 2);
  sums.push();
  core.fi.write(out, sums.front(), n * width / 2);
}
MTIA_KERNEL(bags)

// Tables of the SIMD engine beside the vector core's exact functions.
void tables(Core& core, Global<const float> x, Global<float> table, Global<float> exact, int64_t n) {
  auto a = core.buffer<float>("a", 256, 1);
  auto b = core.buffer<float>("b", 256, 1);
  auto c = core.buffer<float>("c", 256, 1);
  if (core.number == 0 || core.pe) return;
  core.fi.read(a.back(), x, n);
  a.push();
  core.se.map(Op::gelu, b.back(), a.front(), n);
  b.push();
  core.fi.write(table, b.front(), n);
  core.wait(a.front());
  core.wait(c.back());
  core.vector.map(Op::gelu, c.back(), a.front(), n);
  c.push();
  core.fi.write(exact, c.front(), n);
}
MTIA_KERNEL(tables)

// out[i][j] = max(x[i][j] * by_row[i] + by_column[j], -1) where that is no NaN
void spreads(Core& core, Global<const float> x, Global<const float> by_row,
             Global<const float> by_column, Global<float> out, int64_t rows, int64_t columns) {
  auto a = core.buffer<float>("a", 4096, 1);
  auto r = core.buffer<float>("r", 64, 1);
  auto c = core.buffer<float>("c", 1024, 1);
  if (core.number || core.pe) return;
  core.fi.read(a.back(), x, rows * columns);
  core.fi.read(r.back(), by_row, rows);
  core.fi.read(c.back(), by_column, columns);
  core.se.rows(Op::mul, a.back(), a.back(), r.back(), rows, columns);
  core.se.columns(Op::add, a.back(), a.back(), c.back(), rows, columns);
  core.se.map(Op::max, a.back(), a.back(), -1.0, rows * columns);
  a.push();
  core.fi.write(out, a.front(), rows * columns);
}
MTIA_KERNEL(spreads)

// A buffer of `depth` blocks between a quick producer and a consumer that works long.
void pressure(Core& core, Global<const float> x, Global<float> out, int64_t depth, double work) {
  auto a = core.buffer<float>("a", 64, depth);
  if (core.pe) return;
  for (int i = 0; i < 16; i++) {
    if (core.number == 0) {
      core.fi.read(a.back(), x + i * 64, 64);
      a.push();
    } else {
      core.wait(a.front());
      core.work(work);
      core.fi.write(out + i * 64, a.front(), 64);
      a.pop();
    }
  }
}
MTIA_KERNEL(pressure)

void products(Core& core, Global<const int8_t> a, Global<const int8_t> b, Global<int32_t> out,
              int64_t m, int64_t n, int64_t k) {
  auto left = core.buffer<int8_t>("left", 4096, 1);
  auto right = core.buffer<int8_t>("right", 4096, 1);
  auto sums = core.buffer<int32_t>("sums", 4096, 1);
  if (core.number || core.pe) return;
  int64_t wide = (k + 31) / 32 * 32;
  core.fi.read(left.back(), a, m, k, k, wide);
  left.push();
  core.fi.read(right.back(), b, n, k, k, wide);
  right.push();
  core.dpe.multiply(sums.back(), left.front(), right.front(), m, n, wide, false);
  core.dpe.multiply(sums.back(), left.front(), right.front(), m, n, wide, true);
  sums.push();
  core.fi.write(out, sums.front(), m * n);
}
MTIA_KERNEL(products)
