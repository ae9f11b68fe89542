import json
import re

import pytest
import torch

from kernelevolve.runtime import mtia
from kernelevolve.runtime.mtia import ledger
from tests.runtime.mtia_kit import KERNELS, kernel

pytestmark = pytest.mark.needs_gxx
FAULTS = {
    "too_large": "local memory overflow: buffer 'large' needs 524288 bytes .* a PE has 393216",
    "odd_block": "blocks of 28 bytes; blocks must be multiples of 32",
    "stuck": r"deadlock: in PE 0 core 0 .* waits for commands that it issued; core 1 \(faults.cpp:"
    r"\d+\) waits for block 0 of buffer 'out' \(not pushed\); FI read .* waits for room in buffer "
    r"'in' \(2 blocks; 3 were pushed and 0 popped\); 1 of 64 PEs",
    "missing_at_barrier": "waits for all cores at the barrier; 126 of 128 are there",
    "misaligned": "element 1 of a block of buffer 'in' is at byte 4",
    "misaligned_write": "writes at byte 4 of argument 1",
    "beyond_tensor": "reads 128 bytes at byte 160 of argument 1, which has 256 bytes",
    "into_the_next": "reads 128 bytes at byte -32 of argument 1",
    "narrow_pitch": "rows of 32 elements do not fit a pitch of 8",
    "beyond_block": "elements 0 to 64 of a block of buffer 'in', which has 32",
    "too_early": r"use before arrival: core 0 touches block 0 of buffer 'in' without core.wait",
    "again_too_early": "while commands that it issued after core.wait work on it",
    "unwritten": "reads block 0 of buffer 'in', into which nothing was written",
    "after_pop": "uses block 0 of buffer 'in' after it was popped",
    "two_producers": "buffer 'in' has two producers: core 0 and core 1",
    "other_buffers": "both cores must declare the same buffers",
    "scalar_core": "core 0 of a PE is scalar",
    "other_tiles": "PEs of a group read different tiles together",
    "off_the_grid": "PE 0 has no neighbour there",
    "narrow_product": "rows of 10 elements along k are no multiple of 32 bytes",
    "float_product": "multiplies half, bfloat and int8_t",
    "endless": "had not ended after 1000 ms of simulated time",
    "endless_waiting": "had not ended after 1000 ms of simulated time",
}
SOURCE = (KERNELS / "faults.cpp").read_text().splitlines()


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_one_sentence_with_its_line(name):
    with pytest.raises(mtia.Fault) as raised:
        kernel("faults", name)(torch.randn(64))
    line = next(n for n, text in enumerate(SOURCE, 1) if text.endswith(f"// {name}"))
    told = str(raised.value)
    assert re.search(FAULTS[name], told), told
    assert f"faults.cpp:{line}" in told
    assert "\n" not in told


def test_what_kind_of_fault_it_is():
    kinds = {"stuck": mtia.Deadlock, "endless": mtia.Overtime, "misaligned": mtia.Fault}
    for name, kind in kinds.items():
        with pytest.raises(mtia.Fault) as raised:
            kernel("faults", name)(torch.randn(64))
        assert type(raised.value) is kind
    kernel("engines", "transpose")(torch.randn(4), torch.empty(4), 2, 2)


def test_a_kernel_that_is_not_there_and_too_few_arguments():
    with pytest.raises(ValueError, match=r"no MTIA_KERNEL\(other\)"):
        kernel("engines", "other")
    with pytest.raises(TypeError, match="takes 4 arguments, 1 were given"):
        kernel("engines", "transpose")(torch.randn(4))


def test_sums_travel_from_neighbour_to_neighbour():
    x, out = torch.randn(64, 40), torch.zeros(8, 64)
    kernel("engines", "neighbours")(x, out, 40)
    wanted = x.view(8, 8, 40).sum(1)
    assert torch.allclose(out[:, :40], wanted, atol=1e-5)


def test_layout_unit_transposes():
    x = torch.randn(37, 53)
    out = torch.empty(53, 37)
    kernel("engines", "transpose")(x, out, 37, 53)
    assert torch.equal(out, x.T)


def test_rows_are_gathered_by_index():
    table = torch.randn(100, 24).half()
    indices = torch.randint(0, 100, (16,), dtype=torch.int32)
    out = torch.empty(24, 8, dtype=torch.half)
    kernel("engines", "bags")(table, indices, out, 16, 24)
    rows = table[indices.long()].T.reshape(24, 8, 2).float()
    assert torch.equal(out, rows.sum(2).half())
    indices[3] = 100
    with pytest.raises(mtia.Fault, match="out of bounds: reads 48 bytes at byte 4800"):
        kernel("engines", "bags")(table, indices, out, 16, 24)


def test_tables_are_rounder_than_the_vector_core():
    x = torch.linspace(-6, 6, 250)
    table, exact = torch.empty(250), torch.empty(250)
    kernel("engines", "tables")(x, table, exact, 250)
    wanted = torch.nn.functional.gelu(x.double())
    error = [((y - wanted) / wanted).abs().nan_to_num().max().item() for y in (table, exact)]
    assert error[1] < 1e-5
    assert 2e-5 < error[0] < 2**-12


def test_values_spread_over_rows_and_columns():
    x, r, c = torch.randn(9, 57), torch.randn(9), torch.randn(57)
    x[4, 5] = torch.nan
    out = torch.empty(9, 57)
    kernel("engines", "spreads")(x, r, c, out, 9, 57)
    assert torch.equal(out.isnan(), x.isnan())
    wanted = (x * r[:, None] + c).clamp(min=-1)
    assert torch.allclose(out, wanted, equal_nan=True)


def test_products_of_int8_are_exact_and_padded_along_k():
    a = torch.randint(-128, 128, (33, 50), dtype=torch.int8)
    b = torch.randint(-128, 128, (17, 50), dtype=torch.int8)
    out = torch.empty(33, 17, dtype=torch.int32)
    kernel("engines", "products")(a, b, out, 33, 17, 50)
    assert torch.equal(out, 2 * (a.int() @ b.int().T))
    with pytest.raises(mtia.Fault, match="multiplies half, bfloat$"):
        kernel("engines", "products", "300")(a, b, out, 33, 17, 50)


def pressure(depth, work):
    x, out = torch.randn(1024), torch.empty(1024)
    with ledger.recording() as found:
        kernel("engines", "pressure")(x, out, depth, work)
    assert torch.equal(x, out)
    return found


def test_deeper_buffers_hide_latency_until_the_consumer_binds():
    one, two, eight = (pressure(depth, 100.0).us for depth in (1, 2, 8))
    assert one > 1.5 * two > 1.5 * eight
    busy = [pressure(depth, 2000.0).us for depth in (2, 8)]
    assert busy[1] == pytest.approx(busy[0], rel=0.02)
    assert busy[1] > 16 * 2000 / 1350


def test_the_same_launch_takes_the_same_simulated_time():
    assert pressure(2, 50.0).launches == pressure(2, 50.0).launches


def test_counters_are_shares_and_bytes():
    found = pressure(2, 50.0).counters()
    assert found["launches"] == 1
    assert found["read_bytes"] == found["written_bytes"] == 4096
    assert 0 < found["fi_read_busy"] < 1
    assert found["core1_busy"] > found["core0_busy"]
    assert found["fi_read_stalled"] > 0


def test_timeline_opens_in_perfetto(tmp_path):
    x, out = torch.randn(64, 40), torch.zeros(8, 64)
    with mtia.timeline(tmp_path / "trace.json"):
        kernel("engines", "neighbours")(x, out, 40)
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    spans = [e for e in events if e["ph"] == "X"]
    assert {e["name"] for e in spans} == {"read", "write", "send", "receive"}
    assert len(spans) == 64 + 8 + 2 * 56
    assert all(e["dur"] >= 0 and e["args"]["line"] > 5 for e in spans)
    names = {e["args"]["name"] for e in events if e["ph"] == "M"}
    assert {"PE 0", "PE 63", "fi_read", "re"} <= names
