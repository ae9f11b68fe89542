"""Contraction regions: one product with everything pointwise after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kernelevolve.programmers.builtin.convolutions import windowed
from kernelevolve.programmers.builtin.ir import (
    Axis,
    Contraction,
    Expr,
    Index,
    Ref,
    Region,
    Size,
    Store,
    Term,
)
from kernelevolve.programmers.builtin.prims import Node, from_product, numel, topological
from kernelevolve.programmers.builtin.pull import (
    Axes,
    Cut,
    Puller,
    Split,
    Where,
    flat,
    key_of,
    reshaped,
)

ALWAYS_MEMORY = frozenset({"scan", "concat", "opaque", "pick"})
VIEWS = frozenset({"reshape", "permute", "expand", "slice", "window"})


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
class Attempt:
    """One try to build all regions with a given set of materialised nodes."""

    memory: set[Node]
    names: dict[Node, str]
    prologues: bool
    regions: dict[Node, tuple[Region, ...]]
    used_by: dict[Node, set[Node]]


def puller_of(root: Node, attempt: Attempt, axes: Axes) -> Puller:
    return Puller(axes, attempt.names, root)


def contract_below(root: Node, attempt: Attempt) -> Node | None:
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
        raise Cut(_epilogue_end(first, topological([root]), attempt))
    return first


def _epilogue_end(product: Node, within: Sequence[Node], attempt: Attempt) -> Node:
    """The last pointwise function of `product` on the way to anything else, or itself."""
    end = product
    while True:
        users = [n for n in within if end in n.inputs]
        step = users[0] if len(users) == 1 else None
        if step is None or step in attempt.memory or not _goes_on(step, end, product):
            return end
        if sum(from_product(n) for n in step.inputs) > 1:
            return end
        end = step


def _goes_on(step: Node, end: Node, product: Node) -> bool:
    """Tell whether a step after a product is a function of its elements, one by one."""
    view = step.op in ("reshape", "permute") and windowed(product)
    return view or (step.op == "map" and step.shape == end.shape)


def contraction(root: Node, base: Node, attempt: Attempt) -> tuple[tuple[Region, ...], set[Node]]:
    """A product with everything pointwise after it, in the product's own element order."""
    axes = Axes()
    while True:
        try:
            return _contraction_over(root, base, attempt, axes)
        except Split as split:
            if split.axis.startswith("batch") or (windowed(base) and split.axis[0] in "mk"):
                axes = Axes(splits={**axes.splits, split.axis: split.inner})
            else:
                raise Cut(_splitting_operand(base, attempt)) from split


def _splitting_operand(base: Node, attempt: Attempt) -> Node:
    """The first operand that is not yet memory; the product itself where both are."""
    for operand in base.inputs:
        if storage(operand) not in attempt.memory and operand.op != "input":
            return operand
    return base


def _contraction_over(
    root: Node, base: Node, attempt: Attempt, axes: Axes
) -> tuple[tuple[Region, ...], set[Node]]:
    a, b = base.inputs
    rank = len(base.shape)
    extents = {"m": base.shape[-2], "n": base.shape[-1], "k": a.shape[-1]}
    at = {n: Index(Size.of(0), (Term(n, Size.of(1)),)) for n in extents}
    axes.sizes.update(extents)
    parts: dict[str, tuple[Axis, ...]] = dict.fromkeys(extents, ())
    for name in extents.keys() & axes.splits.keys():
        at[name], made = axes.make(name, extents[name])
        parts[name] = tuple(made)
    batch = [axes.make(f"batch{i}", s) for i, s in enumerate(base.shape[:-2])]
    lead = tuple(w for w, _ in batch)
    loops = tuple(x for _, more in batch for x in more)
    puller = puller_of(root, attempt, axes)
    puller.may_contract = True
    left = _operand(puller, a, (*lead, at["m"], at["k"]), attempt)
    right = _operand(puller, b, (*lead, at["k"], at["n"]), attempt)
    where = (*lead, at["m"], at["n"])
    position = _position(root, base, where, axes)
    if root is base:
        value: Expr = Ref(base.dtype, "acc")
        puller.nodes.add(base)
    else:
        value = puller.pull(root, position)
        if puller.contract is None or key_of(puller.contract[1]) != key_of(where):
            raise Cut(base)
    store = Store(attempt.names[root], root.dtype, flat(position, root.shape), value)
    m, n, k = (Axis(x, extents[x], parts[x]) for x in ("m", "n", "k"))
    assert rank == len(lead) + 2
    name = attempt.names[root]
    return (Contraction(function(name), loops, m, n, k, left, right, (store,)),), puller.nodes


def _position(root: Node, base: Node, where: Where, axes: Axes) -> Where:
    """Where `root`'s element is that is computed from `base`'s at `where`.

    It has the same row-major number, unless `base` is a convolution, whose channels move.
    """
    try:
        if not windowed(base):
            return where if root.shape == base.shape else reshaped(where, root, base, axes)
        found = {base: where}
        for node in topological([root]):
            source = next((x for x in node.inputs if x in found), None)
            if source is not None and node not in found:
                found |= _raised(node, source, found[source], axes)
        return found[root]
    except (Cut, KeyError):
        raise Cut(base) from None
    except Split as split:
        if windowed(base):
            raise
        raise Cut(base) from split


def _raised(node: Node, source: Node, where: Where, axes: Axes) -> dict[Node, Where]:
    """The position in `node` of a position in its operand, where there is one."""
    if node.op == "map":
        return {node: where}
    if node.op == "permute":
        return {node: tuple(where[dim] for dim in node.attr)}
    return {node: reshaped(where, node, source, axes)} if node.op == "reshape" else {}


def _operand(puller: Puller, node: Node, where: Where, attempt: Attempt) -> Expr:
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
