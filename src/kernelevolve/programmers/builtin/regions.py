"""Partition of a program into regions: what is fused with what, and what becomes memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kernelevolve.programmers.builtin.collapse import collapse
from kernelevolve.programmers.builtin.emit.expr import BYTES
from kernelevolve.programmers.builtin.ir import (
    Axis,
    Buffer,
    Contraction,
    Expr,
    Index,
    Load,
    MapReduce,
    Opaque,
    Pass,
    Reduction,
    Ref,
    Region,
    Scan,
    Size,
    Store,
    walk,
)
from kernelevolve.programmers.builtin.prims import Node, Program, numel, topological
from kernelevolve.programmers.builtin.products import (
    ALWAYS_MEMORY,
    Attempt,
    contract_below,
    contraction,
    function,
    puller_of,
    storage,
)
from kernelevolve.programmers.builtin.pull import (
    Axes,
    Cut,
    Puller,
    Split,
    Where,
    flat,
    plus,
)

HEAVY = frozenset(
    {"exp", "erf", "erf1p", "tanh", "sigmoid", "log", "log1p", "expm1", "pow", "sin", "cos"}
)


class NotPartitioned(Exception):
    """No way was found to compute this program in regions."""


@dataclass(frozen=True)
class Partition:
    """Regions in an order in which they can run, and the buffers between them."""

    regions: tuple[Region, ...]
    buffers: Mapping[str, Buffer]
    """Every buffer but the inputs', by name."""
    outputs: tuple[tuple[str, Node], ...]
    """Buffer (or input) that holds each output, and the output's node."""
    mutations: tuple[tuple[str, str], ...]
    """Module buffer and the buffer with its new content."""
    inputs: tuple[Node, ...]


def partition(
    program: Program, cuts: Iterable[int] = (), prologues: bool = False, prefix: str = "v"
) -> Partition:
    """Fuse as far as possible, materialising also the nodes numbered `cuts` (topologically).

    Buffers are named with `prefix` and a number.

    Raises:
        NotPartitioned: something cannot be expressed.
    """
    results, order = program.roots, program.ordered
    memory = {storage(n) for n in results if n.op != "input"}
    memory |= {n for n in order if n.op in ALWAYS_MEMORY}
    memory |= {storage(order[c]) for c in cuts if c < len(order) and _worth_memory(order[c])}
    for _ in range(4 * len(order) + 8):
        try:
            names = {n: n.attr[0] for n in order if n.op == "input"}
            names |= {n: f"{prefix}{i}" for i, n in enumerate(order) if n in memory}
            attempt = _attempt(results, Attempt(memory, names, prologues, {}, {}))
            _cut_shared(attempt)
            return _finish(program, order, attempt)
        except Cut as cut:
            node = storage(cut.node)
            if node in memory or node.op in ("input", "const"):
                raise NotPartitioned(f"{node} cannot be computed") from cut
            memory = memory | {node}
    raise NotPartitioned("no end of cuts")


def cuttable(program: Program) -> list[int]:
    """Numbers of the nodes that a schedule may choose to materialise."""
    order = program.ordered
    return [i for i, n in enumerate(order) if _worth_memory(n)]


def _worth_memory(node: Node) -> bool:
    return node.op in ("map", "reduce", "search", "contract") and len(node.shape) > 0


def _attempt(results: Sequence[Node], attempt: Attempt) -> Attempt:
    names = attempt.names
    todo = [storage(n) for n in results if n.op != "input"]
    while todo:
        root = todo.pop()
        if root in attempt.regions:
            continue
        regions, nodes = build(root, attempt)
        attempt.regions[root] = regions
        for node in nodes:
            attempt.used_by.setdefault(node, set()).add(root)
        by_name = {name: n for n, name in names.items()}
        sources = [by_name[b] for r in regions for b in reads(r) if b in by_name]
        todo += [s for s in sources if s.op != "input" and s is not root]
    return attempt


def _cut_shared(attempt: Attempt) -> None:
    """Materialise what several regions would otherwise each compute at some expense.

    Raises:
        Cut: for the first such node.
    """
    for node in topological(list(attempt.regions)):
        users = attempt.used_by.get(node, set())
        expensive = node.op in ("reduce", "search", "contract") or (
            node.op == "map" and node.attr[0] in HEAVY
        )
        if len(users) > 1 and expensive and node not in attempt.memory:
            raise Cut(_narrowest(node, attempt) if node.op == "search" else node)


def _narrowest(node: Node, attempt: Attempt) -> Node:
    """Of what alone uses `node` and whatever that makes, one after the other, the least memory."""
    inner = topological(list(attempt.regions))
    found = node
    while True:
        users = [n for n in inner if node in n.inputs]
        if len(users) != 1 or users[0].op not in ("map", "lookup"):
            return found
        node = users[0]
        if attempt.used_by.get(node) != attempt.used_by[found] or numel(node.shape) != numel(
            found.shape
        ):
            return found
        found = node if BYTES[node.dtype] < BYTES[found.dtype] else found


def build(root: Node, attempt: Attempt) -> tuple[tuple[Region, ...], set[Node]]:
    """The regions that compute one materialised node, and the nodes computed inside them.

    Raises:
        Cut: something has to be materialised first.
    """
    name = attempt.names[root]
    if root.op == "opaque":
        return (_opaque(root, attempt),), {root}
    if root.op == "pick":
        source = attempt.names[root.inputs[0]]
        return (Opaque(name, (source,), (name,), f"{name} = {source}[{root.attr[0]}]"),), {root}
    if root.op == "measure":
        (symbol, text), source = root.attr, _materialised(root.inputs[0], attempt)
        return (Opaque(name, (source,), (), f"{symbol} = {text.format(source)}"),), {root}
    if root.op == "concat":
        return _concat(root, attempt)
    axes = Axes()
    while True:
        try:
            if root.op == "scan":
                return _scan(root, attempt, axes)
            return _fused(root, attempt, axes)
        except Split as split:
            axes = Axes(splits={**axes.splits, split.axis: split.inner})


def reads(region: Region) -> tuple[str, ...]:
    """Names of the buffers that a region reads."""
    if isinstance(region, Opaque):
        return region.reads
    exprs: list[Expr] = []
    if isinstance(region, MapReduce):
        for p in region.passes:
            exprs += [r.value for r in p.reductions] + [s.value for s in p.stores]
    elif isinstance(region, Contraction):
        exprs += [region.a, region.b, *(s.value for s in region.stores)]
    else:
        exprs += [region.value, region.store.value]
    loads = [e for x in exprs for e in walk(x) if isinstance(e, Load)]
    return tuple(dict.fromkeys(load.buffer for load in loads))


def _opaque(root: Node, attempt: Attempt) -> Opaque:
    sources = [_materialised(n, attempt) for n in root.inputs]
    shaped = [
        f"{s}.view({', '.join(e.expr.replace('/', '//') for e in n.shape)})"
        if n not in attempt.names
        else s
        for n, s in zip(root.inputs, sources, strict=True)
    ]
    name = attempt.names[root]
    return Opaque(name, tuple(sources), (name,), f"{name} = {root.attr[0].format(*shaped)}")


def _materialised(node: Node, attempt: Attempt) -> str:
    held = node if node in attempt.names else storage(node)
    if held not in attempt.names:
        raise Cut(node)
    return attempt.names[held]


def _root_position(root: Node, axes: Axes) -> tuple[Where, tuple[Axis, ...]]:
    made = [axes.make(f"d{i}", s) for i, s in enumerate(root.shape)]
    return tuple(at for at, _ in made), tuple(a for _, more in made for a in more)


def _concat(root: Node, attempt: Attempt) -> tuple[tuple[Region, ...], set[Node]]:
    """One region for each part, storing at its offset."""
    dim, begin = root.attr[0], Size.of(0)
    name, regions, nodes = attempt.names[root], [], {root}
    for number, part in enumerate(root.inputs):
        axes = Axes()
        while True:
            try:
                puller = puller_of(root, attempt, axes)
                where, loops = _root_position(part, axes)
                value = puller.pull(part, where)
                break
            except Split as split:
                axes = Axes(splits={**axes.splits, split.axis: split.inner})
        if puller.reductions:
            raise Cut(part)
        shifted = [plus(w, Index(begin)) if d == dim else w for d, w in enumerate(where)]
        store = Store(name, root.dtype, flat(tuple(shifted), root.shape), value)
        region = MapReduce(f"{function(name)}_{number}", (), (Pass(loops, (), (store,)),))
        regions.append(collapse(region))
        nodes |= puller.nodes
        begin = begin + part.shape[dim]
    return tuple(regions), nodes


def _scan(root: Node, attempt: Attempt, axes: Axes) -> tuple[tuple[Region, ...], set[Node]]:
    kind, dim = root.attr
    puller = puller_of(root, attempt, axes)
    where, loops = _root_position(root, axes)
    along = [t.axis for t in where[dim].terms]
    value = puller.pull(root.inputs[0], where)
    if len(along) > 1 or puller.reductions:
        raise Cut(root.inputs[0])
    axis = next((a for a in loops if a.name in along), Axis("scanned", Size.of(1)))
    outer = tuple(a for a in loops if a.name not in along)
    name = attempt.names[root]
    store = Store(name, root.dtype, flat(where, root.shape), Ref(root.dtype, "carry"))
    region = Scan(function(name), outer, axis, kind, value, root.dtype, store)
    return (region,), puller.nodes | {root}


def _fused(root: Node, attempt: Attempt, axes: Axes) -> tuple[tuple[Region, ...], set[Node]]:
    base = contract_below(root, attempt)
    if base is not None:
        return contraction(root, base, attempt)
    puller = puller_of(root, attempt, axes)
    where, loops = _root_position(root, axes)
    puller.inner = loops
    value = puller.pull(root, where)
    name = attempt.names[root]
    store = Store(name, root.dtype, flat(where, root.shape), value)
    region = MapReduce(function(name), *_passes(puller, loops, store))
    return (collapse(region),), puller.nodes


def _passes(
    puller: Puller, loops: tuple[Axis, ...], store: Store
) -> tuple[tuple[Axis, ...], tuple[Pass, ...]]:
    """Outer loops, and the sweeps in dependency order; reductions that can share one do."""
    if not puller.reductions:
        return (), (Pass(loops, (), (store,)),)
    outer = tuple(a for a in loops if a.name in (puller.outer or ()))
    level: dict[str, int] = {}
    groups: dict[tuple[int, tuple[Axis, ...]], list[Reduction]] = {}
    for reduction, over in puller.reductions:
        needs = [level[e.name] for e in walk(reduction.value) if isinstance(e, Ref)]
        level[reduction.name] = max(needs, default=-1) + 1
        groups.setdefault((level[reduction.name], over), []).append(reduction)
    sweeps = [Pass(over, tuple(rs)) for (_, over), rs in sorted(groups.items(), key=_by_level)]
    inner = tuple(a for a in loops if a.name not in (puller.outer or ()))
    return outer, (*sweeps, Pass(inner, (), (store,)))


def _by_level(item: tuple[tuple[int, tuple[Axis, ...]], list[Reduction]]) -> int:
    return item[0][0]


def _finish(program: Program, order: Sequence[Node], attempt: Attempt) -> Partition:
    """Regions in topological order of what they produce."""
    regions = [r for n in order if n in attempt.regions for r in attempt.regions[n]]
    buffers = {
        attempt.names[n]: Buffer(attempt.names[n], n.dtype, n.shape)
        for n in order
        if n in attempt.regions and not (n.op == "opaque" and n.attr[1])
    }
    outputs = tuple((attempt.names[storage(n)], n) for n in program.outputs)
    mutations = tuple((b, attempt.names[storage(n)]) for b, n in program.mutations)
    inputs = tuple(n for n in order if n.op == "input")
    return Partition(tuple(regions), buffers, outputs, mutations, inputs)
