// Merged bucketizing of dense features: how many of its feature's borders are below each value, with
// bins numbered through all features. Borders lie as [border][feature]: one row is compared at a time.
#include <mtia.h>
using namespace mtia;

constexpr int64_t ROWS = 16;

void mbdt(Core& core, Global<const float> x, Global<const float> borders, Global<int64_t> out,
          int64_t batch, int64_t features, int64_t count) {
  auto value = core.buffer<float>("value", ROWS * features, 2);
  auto above = core.buffer<float>("above", ROWS * features, 1);
  auto bin = core.buffer<float>("bin", (features + 7) / 8 * 8, 1);
  auto level = core.buffer<float>("level", count * 8 * ((features + 7) / 8), 1);
  auto found = core.buffer<int64_t>("found", ROWS * features, 2);
  if (core.number) return;
  int64_t wide = (features + 7) / 8 * 8;
  core.fi.read(level.back(), borders, count, features, features, wide);
  core.wait(bin.back());
  for (int64_t f = 0; f < features; f++) bin.back().set(f, float(f * (count + 1) + count));
  for (int64_t row = core.pe * ROWS; row < batch; row += core.pes * ROWS) {
    int64_t rows = std::min(ROWS, batch - row), n = rows * features;
    core.fi.read(value.back(), x + row * features, n);
    value.push();
    core.se.columns(Op::less_equal, found.back(), value.front(), level.back(), rows, features);
    core.se.columns(Op::sub, found.back(), found.back(), bin.back(), rows, features);
    core.se.map(Op::neg, found.back(), found.back(), n);
    for (int64_t k = 1; k < count; k++) {
      core.se.columns(Op::less_equal, above.back(), value.front(), level.back() + k * wide, rows,
                      features);
      core.se.map(Op::sub, found.back(), found.back(), above.back(), n);
    }
    value.pop();
    found.push();
    core.fi.write(out + row * features, found.front(), n);
    found.pop();
  }
}
MTIA_KERNEL(mbdt)
