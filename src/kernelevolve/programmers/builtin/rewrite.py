"""Algebra on a program: cheaper orders of products, and sums moved through linear maps.

Every rule keeps values equal in exact arithmetic. Costs are multiplications at the captured sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kernelevolve.programmers.builtin.affine import Affine
from kernelevolve.programmers.builtin.convolutions import primitives
from kernelevolve.programmers.builtin.ir import Size
from kernelevolve.programmers.builtin.prims import (
    FLOATS,
    Builder,
    Node,
    Program,
    numel,
    topological,
)

ROUNDS = 6


def rewrite(
    program: Program, build: Builder, known: Callable[[Node], bool]
) -> tuple[Program, bool]:
    """The program after its algebra, and whether that changed the arithmetic.

    What is `known` is computed ahead and costs forward nothing.
    """
    changed = False
    for _ in range(ROUNDS):
        rules = _Algebra(build, _users(program), known)
        program = transform(program, build, rules.apply, rules.users)
        changed |= rules.used
        if not rules.used:
            break
    return program, changed


def with_library(program: Program, build: Builder) -> Program:
    """The program with its products left to the library."""
    return transform(program, build, lambda node: _call(build, node))


def with_convolutions(program: Program, build: Builder) -> Program:
    """The program with its convolutions as primitives, which the library would compute."""
    return transform(program, build, lambda node: primitives(build, node))


def roots(program: Program) -> list[Node]:
    """What the program returns and writes back."""
    return [*program.outputs, *(n for _, n in program.mutations)]


def transform(
    program: Program,
    build: Builder,
    rule: Callable[[Node], Node | None],
    users: dict[Node, int] | None = None,
) -> Program:
    """Apply `rule` to every node, operands first; None keeps a node.

    What takes a node's place inherits its number of `users`.
    """
    made: dict[Node, Node] = {}
    counts = {} if users is None else users
    for node in topological(roots(program)):
        inputs = [made[x] for x in node.inputs]
        fresh = node
        if any(a is not b for a, b in zip(inputs, node.inputs, strict=True)):
            fresh = again(build, node, inputs)
            counts[fresh] = max(counts.get(fresh, 0), counts.get(node, 1))
        made[node] = rule(fresh) or fresh
        counts[made[node]] = max(counts.get(made[node], 0), counts.get(node, 1))
    outputs = tuple(made[n] for n in program.outputs)
    return Program(outputs, tuple((b, made[n]) for b, n in program.mutations))


def again(build: Builder, node: Node, inputs: Sequence[Node]) -> Node:
    """`node` with other operands."""
    if node.op == "reshape":
        return build.reshape(inputs[0], node.shape)
    if node.op == "permute":
        return build.permute(inputs[0], node.attr)
    if node.op == "map" and node.attr[0] != "cast":
        return build.map(node.attr[0], inputs, node.dtype)
    return build.node(node.op, inputs, node.shape, node.dtype, node.attr)


def _call(build: Builder, node: Node) -> Node | None:
    if node.op != "contract":
        return None
    code = ("torch.matmul({0}, {1})", 0)
    return build.node("opaque", node.inputs, node.shape, node.dtype, code)


def _users(program: Program) -> dict[Node, int]:
    counts: dict[Node, int] = {}
    for node in topological(roots(program)):
        for source in node.inputs:
            counts[source] = counts.get(source, 0) + 1
    for node in roots(program):
        counts[node] = counts.get(node, 0) + 1
    return counts


@dataclass
class _Algebra:
    """One round of rules; `used` tells whether the arithmetic changed."""

    build: Builder
    users: dict[Node, int]
    known: Callable[[Node], bool]
    used: bool = False

    def apply(self, node: Node) -> Node | None:
        if node.dtype not in FLOATS:
            return None
        if node.op == "permute":
            return self._transposed(node)
        if self.known(node):
            return None
        if node.op == "map":
            return self._absorbed(node)
        if node.op == "contract":
            return self._associate(node)
        if node.op == "reduce" and node.attr[0] == "sum":
            return self._sum_of(node.inputs[0], node.attr[1], node)
        return None

    def _absorbed(self, node: Node) -> Node | None:
        """A scale or shift of channels as part of the weights before it."""
        found = Affine(self.build, self.users, self.known).apply(node)
        self.used |= found is not None
        return found

    def product(self, a: Node, b: Node) -> Node:
        shape = (*a.shape[:-2], a.shape[-2], b.shape[-1])
        return self.build.node("contract", [a, b], shape, a.dtype)

    def _associate(self, node: Node) -> Node | None:
        """A (b c) as (a b) c and the other way round, whichever multiplies less."""
        left, right = node.inputs
        now = self._cost(node)
        if right.op == "contract" and self.users.get(right, 1) <= 1:
            inner = self.product(left, right.inputs[0])
            other = self.product(inner, right.inputs[1])
            if _cheaper(_sum(self._cost(inner), self._cost(other)), _sum(self._cost(right), now)):
                self.used = True
                return other
        if left.op == "contract" and self.users.get(left, 1) <= 1:
            inner = self.product(left.inputs[1], right)
            other = self.product(left.inputs[0], inner)
            if _cheaper(_sum(self._cost(inner), self._cost(other)), _sum(self._cost(left), now)):
                self.used = True
                return other
        return None

    def _cost(self, product: Node) -> tuple[int, ...]:
        """Multiplications in forward at each capture."""
        if self.known(product):
            return (0,)
        return (numel(product.shape) * product.inputs[0].shape[-1]).values

    def _transposed(self, node: Node) -> Node | None:
        """The transpose of a product is the product of the transposes, swapped."""
        source, rank = node.inputs[0], len(node.shape)
        swap = (*range(rank - 2), rank - 1, rank - 2)
        if source.op != "contract" or node.attr != swap or self.users.get(source, 1) > 1:
            return None
        a, b = source.inputs
        return self.product(self.build.permute(b, swap), self.build.permute(a, swap))

    def _sum_of(self, x: Node, dims: tuple[int, ...], node: Node) -> Node | None:
        """The sum of a linear map as the linear map of a sum, where that saves a product."""
        if self.users.get(x, 1) > 1:
            return None
        if x.op == "contract":
            return self._sum_of_product(x, dims, node)
        if x.op == "reshape":
            return self._sum_of_rows(x, dims, node)
        if x.op == "map" and x.attr[0] in ("add", "sub") and _has_product(x):
            a, b = (self._reduced(y, dims) for y in x.inputs)
            return self.build.map(x.attr[0], [a, b], node.dtype)
        if x.op == "map" and x.attr[0] in ("mul", "div") and _has_product(x):
            scale = x.inputs[1]
            if scale.op == "expand" and scale.inputs[0].op == "const":
                total = self._reduced(x.inputs[0], dims)
                return self.build.map(x.attr[0], [total, scale.inputs[0]], node.dtype)
        return None

    def _reduced(self, x: Node, dims: tuple[int, ...]) -> Node:
        """The sum of `x`; broadcast dimensions are multiplied out."""
        if x.op == "expand":
            source = x.inputs[0]
            lead = len(x.shape) - len(source.shape)
            wide = [d for d in dims if d < lead or source.shape[d - lead].is_const(1)]
            if sorted(wide) == sorted(dims):
                kept = [s for d, s in enumerate(x.shape) if d not in dims]
                core = [s for d, s in enumerate(source.shape) if d + lead not in dims]
                count = self.build.size(numel([x.shape[d] for d in dims]), x.dtype)
                once = self.build.expand(self.build.reshape(source, core), kept)
                return self.build.map("mul", [once, count], x.dtype)
        total = self.build.reduce("sum", x, dims)
        return self._sum_of(x, dims, total) or total

    def _sum_of_product(self, x: Node, dims: tuple[int, ...], node: Node) -> Node | None:
        rank = len(x.shape)
        if any(d < rank - 2 for d in dims):
            return None
        a, b = x.inputs
        self.used = True
        if rank - 2 in dims:
            row = self.build.reduce("sum", a, [rank - 2])
            a = self.build.reshape(row, (*a.shape[:-2], Size.of(1), a.shape[-1]))
        if rank - 1 in dims:
            column = self.build.reduce("sum", b, [rank - 1])
            b = self.build.reshape(column, (*b.shape[:-1], Size.of(1)))
        return self.build.reshape(self.product(a, b), node.shape)

    def _sum_of_rows(self, x: Node, dims: tuple[int, ...], node: Node) -> Node | None:
        """The same for rows of one matrix product seen as several dimensions."""
        source, last = x.inputs[0], len(x.shape) - 1
        if not _has_product(source) or len(source.shape) != 2 or x.shape[-1] != source.shape[-1]:
            return None
        if last in dims:
            return None
        if source.op == "map":
            return self._sum_of_epilogue(source, x, dims, node)
        if source.op != "contract" or self.users.get(source, 1) > 1:
            return None
        a, b = source.inputs
        rows = self.build.reshape(a, (*x.shape[:-1], a.shape[-1]))
        total = self.build.reduce("sum", rows, dims)
        self.used = True
        flat = self.build.reshape(total, (numel(total.shape[:-1]), a.shape[-1]))
        return self.build.reshape(self.product(flat, b), node.shape)

    def _sum_of_epilogue(
        self, source: Node, x: Node, dims: tuple[int, ...], node: Node
    ) -> Node | None:
        """Push the reshape below a sum of a product and a row vector."""
        if source.attr[0] not in ("add", "sub"):
            return None
        parts = []
        for operand in source.inputs:
            if operand.op == "expand" and len(operand.inputs[0].shape) == 1:
                wide = self.build.expand(operand.inputs[0], x.shape)
                parts.append(self._reduced(wide, dims))
            else:
                parts.append(self._reduced(self.build.reshape(operand, x.shape), dims))
        return self.build.map(source.attr[0], parts, node.dtype)


def _has_product(node: Node) -> bool:
    while node.op in ("map", "reshape"):
        found = [n for n in node.inputs if n.op in ("contract", "map", "reshape")]
        if not found or (node.op == "map" and node.attr[0] not in ("add", "sub", "mul", "div")):
            return False
        node = found[0]
    return node.op == "contract"


def _sum(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    count = max(len(a), len(b))
    left, right = (v * count if len(v) == 1 else v for v in (a, b))
    return tuple(x + y for x, y in zip(left, right, strict=True))


def _cheaper(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """Clearly less in total, over the captured sizes."""
    count = max(len(a), len(b))
    totals = [sum(v) * (count if len(v) == 1 else 1) for v in (a, b)]
    return totals[0] * 1.1 < totals[1]
