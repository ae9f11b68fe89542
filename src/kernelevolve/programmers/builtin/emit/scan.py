"""Running sums and the like to C++: lanes along an outer axis where memory runs along one."""

from __future__ import annotations

from kernelevolve.programmers.builtin.emit.expr import ARITHMETIC, STORAGE, VECTOR, Printer
from kernelevolve.programmers.builtin.ir import Axis, DType, Scan, loads_of

STEP = {"sum": "carry + {}", "prod": "carry * {}", "max": "vmax({}, carry)"}
START = {"sum": "0", "prod": "1"}


def emit_scan(region: Scan) -> list[str]:
    """Statements that compute `region`."""
    lane = _lane(region)
    others = [a for a in region.outer if a != lane]
    blocks = [_chain(region, lane, lanes) for lanes in ((None, "left") if lane else (None,))]
    if lane is None:
        lines = blocks[0]
    else:
        j, n = lane.name, lane.size.expr
        lines = [f"int64_t {j} = 0;", f"for (; {j} + W <= {n}; {j} += W) {{", *blocks[0], "}"]
        lines += [f"if ({j} < {n}) {{", f"const int64_t left = {n} - {j};", *blocks[1], "}"]
    for axis in reversed(others):
        a = axis.name
        lines = [f"for (int64_t {a} = 0; {a} < {axis.size.expr}; {a}++) {{", *lines, "}"]
    return lines


def _lane(region: Scan) -> Axis | None:
    for axis in region.outer:
        if region.store.index.stride(axis.name).constant == 1:
            return axis
    return None


def _chain(region: Scan, lane: Axis | None, lanes: str | None) -> list[str]:
    """The sequential loop for one point, or one vector of points."""
    printer = Printer(lane.name if lane else None)
    printer.lanes = lanes
    dtype = ARITHMETIC[region.dtype]
    wide: DType = "f64" if dtype == "f32" and region.kind == "sum" else dtype
    kind = VECTOR[wide] if lane else STORAGE[wide]
    start = START.get(region.kind, "0")
    printer.open(region.axis.name)
    value = printer.convert(printer.value(region.value), wide)
    text = printer.vector(value) if lane else value.text
    printer.line(f"carry = {STEP[region.kind].format(text)};")
    printer.bind("carry", "carry", lane is not None, wide)
    printer.store(region.store)
    body = printer.close()
    r, n = region.axis.name, region.axis.size.expr
    first = f"splat<{kind}>({start})" if lane else start
    head = [*printer.scopes[0].lines, f"{kind} carry = {first};"]
    return [*head, f"for (int64_t {r} = 0; {r} < {n}; {r}++) {{", *body, "}"]


def reads_of(region: Scan) -> list[str]:
    """Buffers that the running value is made from."""
    return [load.buffer for load in loads_of(region.value)]
