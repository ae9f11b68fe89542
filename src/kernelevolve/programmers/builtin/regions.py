"""Partition of a program into regions: what is fused with what, and what becomes memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kernelevolve.programmers.builtin.collapse import collapse
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
    Term,
    walk,
)
from kernelevolve.programmers.builtin.prims import Node, Program, from_product, numel, topological
from kernelevolve.programmers.builtin.pull import (
    ZERO,
    Axes,
    Cut,
    Puller,
    Split,
    Where,
    flat,
    key_of,
    plus,
    times,
)

ALWAYS_MEMORY = frozenset({"scan", "concat", "opaque", "pick"})
HEAVY = frozenset(
    {"exp", "erf", "erf1p", "tanh", "sigmoid", "log", "log1p", "expm1", "pow", "sin", "cos"}
)
VIEWS = frozenset({"reshape", "permute", "expand", "slice"})


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


def function(buffer: str) -> str:
    """The name of the region that fills a buffer."""
    return f"fill_{buffer}"


def storage(node: Node) -> Node:
    """The node whose memory serves for `node`, reshapes being free."""
    inner = node
    while inner.op == "reshape":
        inner = inner.inputs[0]
    return node if inner.op in ("input", "const") else inner


@dataclass
class _Attempt:
    """One try to build all regions with a given set of materialised nodes."""

    memory: set[Node]
    names: dict[Node, str]
    prologues: bool
    regions: dict[Node, tuple[Region, ...]]
    used_by: dict[Node, set[Node]]


def partition(program: Program, cuts: Iterable[int] = (), prologues: bool = False) -> Partition:
    """Fuse as far as possible, materialising also the nodes numbered `cuts` (topologically).

    Raises:
        NotPartitioned: something cannot be expressed.
    """
    results = [*program.outputs, *(n for _, n in program.mutations)]
    order = topological(results)
    memory = {storage(n) for n in results if n.op != "input"}
    memory |= {n for n in order if n.op in ALWAYS_MEMORY}
    memory |= {storage(order[c]) for c in cuts if c < len(order) and _worth_memory(order[c])}
    for _ in range(4 * len(order) + 8):
        try:
            attempt = _attempt(results, order, memory, prologues)
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
    order = topological([*program.outputs, *(n for _, n in program.mutations)])
    return [i for i, n in enumerate(order) if _worth_memory(n)]


def _worth_memory(node: Node) -> bool:
    return node.op in ("map", "reduce", "contract") and len(node.shape) > 0


def _attempt(
    results: Sequence[Node], order: Sequence[Node], memory: set[Node], prologues: bool
) -> _Attempt:
    names = {n: n.attr[0] for n in order if n.op == "input"}
    names |= {n: f"v{i}" for i, n in enumerate(order) if n in memory}
    attempt = _Attempt(memory, names, prologues, {}, {})
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


def _cut_shared(attempt: _Attempt) -> None:
    """Materialise what several regions would otherwise each compute at some expense.

    Raises:
        Cut: for the first such node.
    """
    for node in topological(list(attempt.regions)):
        users = attempt.used_by.get(node, set())
        expensive = node.op in ("reduce", "contract") or (
            node.op == "map" and node.attr[0] in HEAVY
        )
        if len(users) > 1 and expensive and node not in attempt.memory:
            raise Cut(node)


def build(root: Node, attempt: _Attempt) -> tuple[tuple[Region, ...], set[Node]]:
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


def _opaque(root: Node, attempt: _Attempt) -> Opaque:
    sources = [_materialised(n, attempt) for n in root.inputs]
    shaped = [
        f"{s}.view({', '.join(e.expr.replace('/', '//') for e in n.shape)})"
        if n not in attempt.names
        else s
        for n, s in zip(root.inputs, sources, strict=True)
    ]
    name = attempt.names[root]
    return Opaque(name, tuple(sources), (name,), f"{name} = {root.attr[0].format(*shaped)}")


def _materialised(node: Node, attempt: _Attempt) -> str:
    held = node if node in attempt.names else storage(node)
    if held not in attempt.names:
        raise Cut(node)
    return attempt.names[held]


def _root_position(root: Node, axes: Axes) -> tuple[Where, tuple[Axis, ...]]:
    made = [axes.make(f"d{i}", s) for i, s in enumerate(root.shape)]
    return tuple(at for at, _ in made), tuple(a for _, more in made for a in more)


def _puller(root: Node, attempt: _Attempt, axes: Axes) -> Puller:
    return Puller(axes, attempt.names, root)


def _concat(root: Node, attempt: _Attempt) -> tuple[tuple[Region, ...], set[Node]]:
    """One region for each part, storing at its offset."""
    dim, begin = root.attr[0], Size.of(0)
    name, regions, nodes = attempt.names[root], [], {root}
    for number, part in enumerate(root.inputs):
        axes = Axes()
        while True:
            try:
                puller = _puller(root, attempt, axes)
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


def _scan(root: Node, attempt: _Attempt, axes: Axes) -> tuple[tuple[Region, ...], set[Node]]:
    kind, dim = root.attr
    puller = _puller(root, attempt, axes)
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


def _fused(root: Node, attempt: _Attempt, axes: Axes) -> tuple[tuple[Region, ...], set[Node]]:
    base = _contract_below(root, attempt)
    if base is not None:
        return _contraction(root, base, attempt)
    puller = _puller(root, attempt, axes)
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


def _contract_below(root: Node, attempt: _Attempt) -> Node | None:
    """The one product that `root` is a pointwise function of, if it can be fused."""
    found: set[Node] = set()
    seen: set[Node] = set()

    def visit(node: Node) -> bool:
        if node in seen:
            return True
        seen.add(node)
        if node.op == "input" or (node in attempt.names and node is not root):
            return True
        if node.op == "contract":
            found.add(node)
            return True
        if node.op in ("reduce", *ALWAYS_MEMORY):
            return False
        return all(visit(x) for x in node.inputs)

    plain = visit(root)
    if not found or (root.op == "contract" and len(found) == 1):
        return next(iter(found), None)
    first = next(n for n in topological(list(found)) if n in found)
    if not plain or len(found) > 1 or numel(first.shape) != numel(root.shape):
        raise Cut(_epilogue_end(first, seen, attempt))
    return first


def _epilogue_end(product: Node, within: set[Node], attempt: _Attempt) -> Node:
    """The last pointwise function of `product` on the way to anything else, or itself."""
    end = product
    while True:
        users = [n for n in within if end in n.inputs]
        step = users[0] if len(users) == 1 else None
        if step is None or step.op != "map" or step in attempt.memory or step.shape != end.shape:
            return end
        if sum(from_product(n) for n in step.inputs) > 1:
            return end
        end = step


def _contraction(root: Node, base: Node, attempt: _Attempt) -> tuple[tuple[Region, ...], set[Node]]:
    """A product with everything pointwise after it, in the product's own element order."""
    axes = Axes()
    while True:
        try:
            return _contraction_over(root, base, attempt, axes)
        except Split as split:
            if split.axis.startswith("batch"):
                axes = Axes(splits={**axes.splits, split.axis: split.inner})
            else:
                raise Cut(_splitting_operand(base, attempt)) from split


def _splitting_operand(base: Node, attempt: _Attempt) -> Node:
    """The first operand that is not yet memory; the product itself where both are."""
    for operand in base.inputs:
        if storage(operand) not in attempt.memory and operand.op != "input":
            return operand
    return base


def _contraction_over(
    root: Node, base: Node, attempt: _Attempt, axes: Axes
) -> tuple[tuple[Region, ...], set[Node]]:
    a, b = base.inputs
    rank = len(base.shape)
    extents = {"m": base.shape[-2], "n": base.shape[-1], "k": a.shape[-1]}
    at = {n: Index(Size.of(0), (Term(n, Size.of(1)),)) for n in extents}
    axes.sizes.update(extents)
    batch = [axes.make(f"batch{i}", s) for i, s in enumerate(base.shape[:-2])]
    lead = tuple(w for w, _ in batch)
    loops = tuple(x for _, more in batch for x in more)
    puller = _puller(root, attempt, axes)
    puller.may_contract = True
    left = _operand(puller, a, (*lead, at["m"], at["k"]), attempt)
    right = _operand(puller, b, (*lead, at["k"], at["n"]), attempt)
    where = (*lead, at["m"], at["n"])
    if root is base:
        value: Expr = Ref(base.dtype, "acc")
        puller.nodes.add(base)
    else:
        linear = flat(where, base.shape)
        position = _reposition(root, base, where, linear, axes)
        value = puller.pull(root, position)
        if puller.contract is None or key_of(puller.contract[1]) != key_of(where):
            raise Cut(base)
    store = Store(attempt.names[root], root.dtype, flat(where, base.shape), value)
    m, n, k = (Axis(x, extents[x]) for x in ("m", "n", "k"))
    assert rank == len(lead) + 2
    name = attempt.names[root]
    return (Contraction(function(name), loops, m, n, k, left, right, (store,)),), puller.nodes


def _reposition(root: Node, base: Node, where: Where, linear: Index, axes: Axes) -> Where:
    """Where `root`'s element is that has the same row-major number as `base`'s at `where`."""
    if root.shape == base.shape:
        return where
    from kernelevolve.programmers.builtin.pull import reshaped

    try:
        return reshaped(where, root, base, axes)
    except (Cut, Split):
        raise Cut(base) from None


def _operand(puller: Puller, node: Node, where: Where, attempt: _Attempt) -> Expr:
    """An operand as a load, or as a prologue where those are wanted."""
    inner = node
    while inner.op in VIEWS and inner not in attempt.names:
        inner = inner.inputs[0]
    if inner not in attempt.names and not (attempt.prologues and inner.op == "map"):
        raise Cut(inner)
    expr = puller.pull(node, where)
    if puller.reductions or puller.contract:
        raise Cut(inner)
    return expr


def _finish(program: Program, order: Sequence[Node], attempt: _Attempt) -> Partition:
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


__all__ = ["NotPartitioned", "Partition", "cuttable", "partition", "reads", "times", "ZERO"]
