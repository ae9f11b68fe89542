"""What a mask of positions hides: from which column on all scores of a row are minus infinity."""

from __future__ import annotations

from typing import NamedTuple

from kernelevolve.programmers.builtin.emit.tiles import text_of
from kernelevolve.programmers.builtin.ir import Call, Const, Expr, Position

FLIPPED = {"ge": "lt", "gt": "le", "le": "gt", "lt": "ge"}


class Line(NamedTuple):
    """`column * columns + row * rows + offset`."""

    columns: int
    rows: int
    offset: str

    def less(self, other: Line) -> Line:
        """The difference."""
        offset = f"({self.offset}) - ({other.offset})"
        return Line(self.columns - other.columns, self.rows - other.rows, offset)


class Edge(NamedTuple):
    """From how many columns after a row's own number on something is so."""

    at: str
    exact: bool
    """It is so nowhere before."""


class Hidden(NamedTuple):
    """What a mask does to scores."""

    at: str
    """From how many columns after a row's own number on they are minus infinity."""
    before: Expr | None
    """What they are before that; None where some may be hidden there too."""


def hidden_from(value: Expr, row: str, column: str) -> Hidden | None:
    """What a mask hides of scores; None where that is not known."""
    if not isinstance(value, Call):
        return None
    if value.fn == "cast":
        found = hidden_from(value.args[0], row, column)
        if found is None or found.before is None:
            return found
        return Hidden(found.at, Call(value.dtype, "cast", (found.before,)))
    if value.fn == "add":
        every = (hidden_from(a, row, column) for a in value.args)
        return next((Hidden(f.at, None) for f in every if f is not None), None)
    if value.fn != "where":
        return None
    condition, there, elsewhere = value.args
    edge, seen = None, elsewhere
    if _is_least(there):
        edge = _later(condition, row, column, True)
    elif _is_least(elsewhere):
        edge, seen = _later(condition, row, column, False), there
    return edge and Hidden(edge.at, seen if edge.exact else None)


def _is_least(expr: Expr) -> bool:
    return isinstance(expr, Const) and expr.value == float("-inf")


def _later(condition: Expr, row: str, column: str, wanted: bool) -> Edge | None:
    """From how many columns after a row's number on a condition is as it is wanted."""
    if not isinstance(condition, Call):
        return None
    if condition.fn == "not":
        return _later(condition.args[0], row, column, not wanted)
    if condition.fn in ("and", "or"):
        rest = [a for a in condition.args if not _always(a, condition.fn == "and")]
        found = [_later(a, row, column, wanted) for a in rest]
        if len(rest) == 1 or (condition.fn == "or") != wanted:
            return found[0] if len(rest) == 1 else None
        return next((Edge(f.at, False) for f in found if f is not None), None)
    if condition.fn == "where":
        return _chosen(condition, row, column, wanted)
    return _compared(condition, row, column, wanted)


def _chosen(condition: Call, row: str, column: str, wanted: bool) -> Edge | None:
    """The same for a choice between truth values."""
    which, there, elsewhere = condition.args
    if _always(there, wanted) and _always(elsewhere, not wanted):
        return _later(which, row, column, True)
    if _always(there, not wanted) and _always(elsewhere, wanted):
        return _later(which, row, column, False)
    return None


def _always(expr: Expr, wanted: bool) -> bool:
    return isinstance(expr, Const) and expr.value is wanted


def _compared(condition: Call, row: str, column: str, wanted: bool) -> Edge | None:
    """The same for a comparison of positions: `column - row >= ...`."""
    fn = condition.fn if wanted else FLIPPED.get(condition.fn)
    if fn not in FLIPPED:
        return None
    left, right = (_line(a, row, column) for a in condition.args)
    if left is None or right is None:
        return None
    line = left.less(right) if fn in ("ge", "gt") else right.less(left)
    if (line.columns, line.rows) != (1, -1):
        return None
    return Edge(f"{'1' if fn in ('gt', 'lt') else '0'} - ({line.offset})", True)


def _line(expr: Expr, row: str, column: str) -> Line | None:
    """A whole number as a line over the two positions."""
    if isinstance(expr, Const):
        text = str(expr.value).replace("/", "//")
        return None if isinstance(expr.value, float | bool) else Line(0, 0, text)
    if isinstance(expr, Position):
        return _position(expr, row, column)
    if not isinstance(expr, Call) or expr.fn not in ("sub", "add", "cast"):
        return None
    parts = [_line(a, row, column) for a in expr.args]
    if expr.fn == "cast":
        return parts[0]
    if parts[0] is None or parts[1] is None:
        return None
    other = Line(0, 0, "0").less(parts[1]) if expr.fn == "add" else parts[1]
    return parts[0].less(other)


def _position(expr: Position, row: str, column: str) -> Line | None:
    terms = [t for t in expr.index.terms if not t.stride.is_const(0)]
    if expr.index.jumps or any(t.axis not in (row, column) for t in terms):
        return None
    if any(t.stride.constant is None for t in terms):
        return None
    strides = {t.axis: t.stride.constant or 0 for t in terms}
    return Line(strides.get(column, 0), strides.get(row, 0), text_of(expr.index.offset))
