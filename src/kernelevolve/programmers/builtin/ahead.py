"""What parameters and buffers alone decide is computed ahead, in `prepare()`, not in forward."""

from __future__ import annotations

from dataclasses import dataclass, field

from kernelevolve.programmers.builtin.prims import Builder, Node, Program, topological
from kernelevolve.programmers.builtin.products import VIEWS
from kernelevolve.programmers.builtin.regions import HEAVY
from kernelevolve.programmers.builtin.rewrite import again

LABOUR = frozenset({"input", "reduce", "scan", "search", "contract", "opaque"})


@dataclass
class Known:
    """Tells whether a value is the same at every call between two loads of weights."""

    tensors: frozenset[str]
    """Parameters and buffers that forward does not change."""
    sizes: frozenset[str]
    """Size symbols that can be read off the module itself."""
    memo: dict[Node, bool] = field(default_factory=dict)

    def __call__(self, node: Node) -> bool:
        """Tell it for `node`."""
        if node not in self.memo:
            self.memo[node] = all(self(x) for x in node.inputs) and self._by_itself(node)
        return self.memo[node]

    def _by_itself(self, node: Node) -> bool:
        if node.op == "input" and node.attr[0] not in self.tensors:
            return False
        return self.sizes >= node.symbols


@dataclass(frozen=True)
class Parts:
    """A program in two."""

    forward: Program
    """Reads what is held as the inputs `held0`, `held1`, ..."""
    held: Program
    """Its outputs are what is held, in that order."""


def held_name(number: int) -> str:
    """What forward calls an output of the held program."""
    return f"held{number}"


def split(program: Program, build: Builder, known: Known, lifted: frozenset[str]) -> Parts:
    """Take what is `known` out of `program`, and the `lifted` constants that no module has."""
    splitter = _Splitter(build, known, lifted)
    for node in topological(program.roots):
        if not known(node):
            inputs = [splitter.read(x, node.op in ("opaque", "measure")) for x in node.inputs]
            splitter.made[node] = again(build, node, inputs)
    outputs = tuple(splitter.result(n) for n in program.outputs)
    mutations = tuple((b, splitter.read(n)) for b, n in program.mutations)
    measures = tuple(splitter.made[n] for n in program.measures)
    return Parts(Program(outputs, mutations, measures), Program(tuple(splitter.held)))


@dataclass
class _Splitter:
    build: Builder
    known: Known
    lifted: frozenset[str]
    made: dict[Node, Node] = field(default_factory=dict)
    """What forward computes in place of a node that is not known."""
    held: dict[Node, Node] = field(default_factory=dict)

    def read(self, node: Node, whole: bool = False) -> Node:
        """`node` as forward reads it; `whole`: it has to be memory, not a view."""
        if not self.known(node):
            return self.made[node]
        if self._registered(node):
            return node
        if node.op in VIEWS and not whole:
            return again(self.build, node, [self.read(node.inputs[0])])
        return self._hold(node) if whole or _costly(node) else node

    def result(self, node: Node) -> Node:
        """`node` as forward returns it: what is held is copied, since callers may write to it."""
        if not self.known(node) or self._registered(node):
            return self.read(node)
        held = self._hold(node)
        return self.build.node("opaque", [held], held.shape, held.dtype, ("{0}.clone()", 0))

    def _registered(self, node: Node) -> bool:
        return node.op == "input" and node.attr[0] not in self.lifted

    def _hold(self, node: Node) -> Node:
        if node not in self.held:
            name = held_name(len(self.held))
            self.held[node] = self.build.node("input", (), node.shape, node.dtype, (name,))
        return self.held[node]


def _costly(node: Node) -> bool:
    """Tell whether reading `node` from memory is better than computing it where it is used."""
    inner = topological([node])
    return any(n.op in LABOUR or (n.op == "map" and n.attr[0] in HEAVY) for n in inner)
