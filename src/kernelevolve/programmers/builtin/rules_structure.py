"""How slicing, reducing, contracting, scanning and indexing ATen operators become primitives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kernelevolve.programmers.builtin.ir import Size
from kernelevolve.programmers.builtin.prims import FLOATS, Builder, Node, broadcast, numel
from kernelevolve.programmers.builtin.rules import NoRule, Rule, promoted, tensor
from kernelevolve.programmers.builtin.unify import Type

RULES: dict[str, Rule] = {}
HUGE = 1 << 40
LAST = "int({0}[-1]) if {0}.numel() else 0"
"""Python text of the total that running sums end with."""


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register the lowering of these ATen operators."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


def as_size(value: Any) -> Size:
    """An extent, literal or symbolic."""
    return value if isinstance(value, Size) else Size.of(int(value))


def dims_of(dims: Any, rank: int) -> list[int]:
    """Dimensions as non-negative numbers; none, or an empty list, means all."""
    if dims is None or dims == []:
        return list(range(rank))
    return [d % rank for d in (dims if isinstance(dims, list) else [dims])] if rank else []


@rule("slice")
def _slice(
    b: Builder, t: Type, x: Node, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Node:
    dim, begin = dim % len(x.shape), as_size(start or 0)
    if begin.constant is not None and begin.constant < 0:
        begin = x.shape[dim] + begin
    if t.shape == x.shape:
        return x
    return b.node("slice", [x], t.shape, x.dtype, (dim, begin, step))


def select(b: Builder, t: Type, x: Node, dim: int, at: Any) -> Node:
    dim, begin = dim % len(x.shape), as_size(at)
    if begin.constant is not None and begin.constant < 0:
        begin = x.shape[dim] + begin
    shape = [Size.of(1) if i == dim else s for i, s in enumerate(x.shape)]
    return b.reshape(b.node("slice", [x], shape, x.dtype, (dim, begin, 1)), t.shape)


RULES["select"] = select


@rule("split", "split_with_sizes", "chunk")
def _split(b: Builder, t: list[Type], x: Node, sizes: Any, dim: int = 0) -> list[Node]:
    dim, begin, parts = dim % len(x.shape), Size.of(0), []
    for part in t:
        parts.append(b.node("slice", [x], part.shape, x.dtype, (dim, begin, 1)))
        begin = begin + part.shape[dim]
    return parts


@rule("unbind")
def _unbind(b: Builder, t: list[Type], x: Node, dim: int = 0) -> list[Node]:
    return [select(b, part, x, dim, i) for i, part in enumerate(t)]


@rule("cat")
def _cat(b: Builder, t: Type, tensors: list[Node], dim: int = 0) -> Node:
    parts = [b.cast(x, t.dtype) for x in tensors if len(x.shape) == len(t.shape)]
    return b.node("concat", parts, t.shape, t.dtype, (dim % len(t.shape),))


@rule("sum", "prod")
def _sum(
    b: Builder, t: Type, x: Node, dims: Any = None, keepdim: bool = False, dtype: Any = None
) -> Node:
    x = b.cast(x, t.dtype)
    return b.reshape(b.reduce("sum", x, dims_of(dims, len(x.shape))), t.shape)


@rule("prod")
def _prod(b: Builder, t: Type, x: Node, dim: Any = None, *rest: Any, **options: Any) -> Node:
    x = b.cast(x, t.dtype)
    return b.reshape(b.reduce("prod", x, dims_of(dim, len(x.shape))), t.shape)


@rule("mean")
def _mean(b: Builder, t: Type, x: Node, dims: Any = None, *rest: Any, **options: Any) -> Node:
    over = dims_of(dims, len(x.shape))
    total = b.reduce("sum", b.cast(x, t.dtype), over)
    count = b.size(numel([x.shape[d] for d in over]), t.dtype)
    return b.reshape(b.map("div", [total, count], t.dtype), t.shape)


@rule("amax", "amin")
def _amax(b: Builder, t: Type, x: Node, dims: Any = None, keepdim: bool = False) -> Node:
    return b.reshape(b.reduce("max", x, dims_of(dims, len(x.shape))), t.shape)


@rule("amin")
def _amin(b: Builder, t: Type, x: Node, dims: Any = None, keepdim: bool = False) -> Node:
    return b.reshape(b.reduce("min", x, dims_of(dims, len(x.shape))), t.shape)


@rule("max", "min")
def _max(b: Builder, t: Any, x: Node, *args: Any, kind: str = "max") -> Node | list[Node]:
    if args and isinstance(args[0], Node):
        return b.map(kind, [x, args[0]], t.dtype)
    if isinstance(t, Type):
        return b.reduce(kind, x, range(len(x.shape)))
    dim = dims_of(args[0], len(x.shape))
    values = b.reshape(b.reduce(kind, x, dim), t[0].shape)
    return [values, b.reshape(b.reduce(f"arg{kind}", x, dim, "i64"), t[1].shape)]


RULES["min"] = lambda b, t, x, *args: _max(b, t, x, *args, kind="min")


@rule("argmax", "argmin")
def _argmax(
    b: Builder, t: Type, x: Node, dim: Any = None, keepdim: bool = False, kind: str = "argmax"
) -> Node:
    if dim is None:
        x, dim = b.reshape(x, [numel(x.shape)]), 0
    return b.reshape(b.reduce(kind, x, dims_of(dim, len(x.shape)), "i64"), t.shape)


RULES["argmin"] = lambda b, t, x, dim=None, keepdim=False: _argmax(b, t, x, dim, kind="argmin")


@rule("any", "all")
def _any(b: Builder, t: Type, x: Node, dims: Any = None, *rest: Any, **options: Any) -> Node:
    reduced = b.reduce("max", b.cast(b.cast(x, "bool"), "i32"), dims_of(dims, len(x.shape)))
    return b.reshape(b.cast(reduced, "bool"), t.shape)


@rule("all")
def _all(b: Builder, t: Type, x: Node, dims: Any = None, *rest: Any, **options: Any) -> Node:
    reduced = b.reduce("min", b.cast(b.cast(x, "bool"), "i32"), dims_of(dims, len(x.shape)))
    return b.reshape(b.cast(reduced, "bool"), t.shape)


def moments(b: Builder, x: Node, dims: list[int], correction: Any) -> tuple[Node, Node]:
    """Variance and mean over `dims`, in two sweeps: the mean, then squared distances from it."""
    kept = [Size.of(1) if i in dims else s for i, s in enumerate(x.shape)]
    count = numel([x.shape[d] for d in dims])
    mean = b.map("div", [b.reduce("sum", x, dims), b.size(count, x.dtype)], x.dtype)
    distance = b.map("sub", [x, b.reshape(mean, kept)], x.dtype)
    squares = b.reduce("sum", b.map("mul", [distance, distance], x.dtype), dims)
    degrees = count + Size.of(-int(correction or 0))
    return b.map("div", [squares, b.size(degrees, x.dtype)], x.dtype), mean


@rule("var_mean")
def _var_mean(
    b: Builder, t: list[Type], x: Node, dims: Any = None, *, correction: Any = 1, **options: Any
) -> list[Node]:
    var, mean = moments(b, x, dims_of(dims, len(x.shape)), correction)
    return [b.reshape(var, t[0].shape), b.reshape(mean, t[1].shape)]


@rule("var")
def _var(
    b: Builder, t: Type, x: Node, dims: Any = None, *, correction: Any = 1, **options: Any
) -> Node:
    return b.reshape(moments(b, x, dims_of(dims, len(x.shape)), correction)[0], t.shape)


@rule("mm", "bmm")
def _mm(b: Builder, t: Type, x: Node, y: Node) -> Node:
    if t.dtype not in FLOATS:
        raise NoRule("integer product")
    return b.node("contract", [x, y], t.shape, t.dtype)


@rule("addmm", "baddbmm")
def _addmm(
    b: Builder, t: Type, bias: Node, x: Node, y: Node, beta: Any = 1, alpha: Any = 1
) -> Node:
    product = _mm(b, t, x, y)
    assert isinstance(product, Node)
    if alpha != 1:
        product = b.map("mul", [product, tensor(b, alpha, t.dtype)], t.dtype)
    if beta != 1:
        bias = b.map("mul", [bias, tensor(b, beta, t.dtype)], t.dtype)
    return b.map("add", [product, bias], t.dtype)


@rule("mv")
def _mv(b: Builder, t: Type, x: Node, v: Node) -> Node:
    return b.reduce("sum", b.map("mul", [x, v], t.dtype), [1])


@rule("dot")
def _dot(b: Builder, t: Type, x: Node, y: Node) -> Node:
    return b.reduce("sum", b.map("mul", [x, y], t.dtype), [0])


@rule("cumsum", "cumprod")
def _cumsum(b: Builder, t: Type, x: Node, dim: int, dtype: Any = None, kind: str = "sum") -> Node:
    if not x.shape:
        raise NoRule("scan of a scalar")
    return b.node("scan", [b.cast(x, t.dtype)], t.shape, t.dtype, (kind, dim % len(x.shape)))


RULES["cumprod"] = lambda b, t, x, dim, dtype=None: _cumsum(b, t, x, dim, dtype, "prod")


@rule("gather")
def _gather(b: Builder, t: Type, x: Node, dim: int, at: Node) -> Node:
    rank = len(x.shape)
    everything = tuple(range(rank))
    where = [("axis", d) if d != dim % rank else ("data", 0, everything) for d in range(rank)]
    return b.node("lookup", [x, at], t.shape, x.dtype, tuple(where))


@rule("embedding")
def _embedding(b: Builder, t: Type, weight: Node, at: Node, *rest: Any, **options: Any) -> Node:
    rank = len(at.shape)
    where = (("data", 0, tuple(range(rank))), ("axis", rank))
    return b.node("lookup", [weight, at], t.shape, weight.dtype, where)


@rule("index_select")
def _index_select(b: Builder, t: Type, x: Node, dim: int, at: Node) -> Node:
    rank = len(x.shape)
    where = [("axis", d) if d != dim % rank else ("data", 0, (dim % rank,)) for d in range(rank)]
    return b.node("lookup", [x, at], t.shape, x.dtype, tuple(where))


@rule("repeat_interleave")
def _repeat_interleave(b: Builder, t: Type, lengths: Node, *, output_size: Any = None) -> Node:
    """The number of each element, as often as the element says."""
    ends = b.node("scan", [b.cast(lengths, "i64")], lengths.shape, "i64", ("sum", 0))
    b.measure(t.shape[0], ends, LAST)
    numbers = b.node("iota", (), t.shape, "i64")
    found = b.node("search", [ends, numbers], t.shape, "i64", ("find_sums",))
    b.repeats[found] = ends.inputs[0]
    return b.cast(found, t.dtype)


def _masked(b: Builder, t: Type, x: Node, mask: Node) -> Node:
    """What lies where a mask is true.

    Where the mask says the same of all that stand for one element, elements are searched, not
    what stands for them.
    """
    first = (("data", 0, (0,)),)
    rank = len(mask.shape)
    data = b.reshape(x, [numel(mask.shape), *x.shape[rank:]])
    mask = b.reshape(mask, data.shape[:1])
    numbers = b.node("iota", (), t.shape[:1], "i64")
    lengths = b.repeats.get(mask.inputs[1]) if mask.op == "lookup" and mask.attr == first else None
    kept = b.cast(mask if lengths is None else mask.inputs[0], "i64")
    if lengths is not None:
        kept = b.map("mul", [kept, lengths], "i64")
    ends = b.node("scan", [kept], kept.shape, "i64", ("sum", 0))
    b.measure(t.shape[0], ends, LAST)
    at = b.node("search", [ends, numbers], t.shape[:1], "i64", ("find_sums",))
    if lengths is not None:
        gap = b.map("sub", [mask.inputs[1].inputs[0], ends], "i64")
        at = b.map("add", [b.node("lookup", [gap, at], at.shape, "i64", first), numbers], "i64")
    where = (*first, *(("axis", d) for d in range(1, len(t.shape))))
    return b.node("lookup", [data, at], t.shape, x.dtype, where)


@rule("masked_select")
def _masked_select(b: Builder, t: Type, x: Node, mask: Node) -> Node:
    shape = broadcast([x.shape, mask.shape])
    return _masked(b, t, b.expand(x, shape), b.expand(mask, shape))


@rule("index")
def _index(b: Builder, t: Type, x: Node, indices: Sequence[Node | None]) -> Node:
    if len(indices) == 1 and indices[0] is not None and indices[0].dtype == "bool":
        return _masked(b, t, x, indices[0])
    used = [i for i, at in enumerate(indices) if at is not None]
    tensors = [at for at in indices if at is not None]
    if used != list(range(used[0], used[-1] + 1)) or any(at.dtype == "bool" for at in tensors):
        raise NoRule("masks and separated indices")
    rank = len(t.shape) - (len(x.shape) - len(used))
    first, nodes = used[0], [x]
    where: list[tuple[Any, ...]] = []
    span = t.shape[first : first + rank]
    for d in range(len(x.shape)):
        if d in used:
            index = b.expand(b.cast(tensors[used.index(d)], "i64"), span)
            wrapped = b.map("add", [index, b.size(x.shape[d], "i64")], "i64")
            negative = b.map("lt", [index, b.const(0, "i64")], "bool")
            nodes.append(b.map("where", [negative, wrapped, index], "i64"))
            where.append(("data", len(nodes) - 2, tuple(range(first, first + rank))))
        else:
            where.append(("axis", d if d < first else d - len(used) + rank))
    return b.node("lookup", nodes, t.shape, x.dtype, tuple(where))


@rule("searchsorted")
def _searchsorted(
    b: Builder,
    t: Type,
    table: Node,
    values: Any,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Node | None = None,
) -> Node:
    dtype = promoted(table, values)
    if sorter is not None or dtype == "bool":
        raise NoRule("a table that is not in order itself, or of truth values")
    if table.shape[-1].is_const(0):
        return b.expand(b.const(0, t.dtype), t.shape)
    value = b.expand(tensor(b, values, dtype), t.shape)
    attr = ("find_right" if right or side == "right" else "find",)
    return b.cast(b.node("search", [b.cast(table, dtype), value], t.shape, "i64", attr), t.dtype)


RULES["bucketize"] = lambda b, t, x, table, **how: _searchsorted(b, t, table, x, **how)


@rule("flip")
def _flip(b: Builder, t: Type, x: Node, dims: list[int]) -> Node:
    for dim in dims_of(dims, len(x.shape)):
        last = x.shape[dim] + Size.of(-1)
        x = b.node("slice", [x], x.shape, x.dtype, (dim, last, -1))
    return x
