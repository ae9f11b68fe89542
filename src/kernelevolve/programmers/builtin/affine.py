"""Scales and shifts of channels, taken into the weight and the bias of the linear map before them.

This is how a batch norm in evaluation mode disappears into a convolution or a linear layer: its
own scale and shift, the weight and the bias become a new weight and a new bias.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from kernelevolve.programmers.builtin.convolutions import convolution, is_convolution
from kernelevolve.programmers.builtin.ir import Size
from kernelevolve.programmers.builtin.prims import Builder, Node, topological

EXACT = frozenset({"f32", "f64"})
"""Where rounding a weight once more costs no more than what sums round anyway."""


@dataclass(frozen=True)
class _Linear:
    """A product or convolution with a known weight, and what is added to its channels."""

    core: Node
    weight: Node
    shift: Node | None

    @property
    def channels(self) -> int:
        """The dimension of the channels."""
        return 1 if self.core.op == "opaque" else len(self.core.shape) - 1


@dataclass(frozen=True)
class Affine:
    """The rule, for one round over a program."""

    build: Builder
    users: Mapping[Node, int]
    known: Callable[[Node], bool]

    def apply(self, node: Node) -> Node | None:
        """A linear map in place of a scaled or shifted one; None where there is none."""
        if node.op != "map" or node.attr[0] not in ("mul", "div", "add", "sub"):
            return None
        if node.dtype not in EXACT:
            return None
        first, second = node.inputs
        found = self._applied(node.attr[0], first, second)
        if found is None and node.attr[0] in ("mul", "add"):
            found = self._applied(node.attr[0], second, first)
        return found

    def _applied(self, fn: str, scaled: Node, by: Node) -> Node | None:
        linear = self._linear(scaled)
        given = None if linear is None else self._per_channel(by, linear)
        if linear is None or given is None:
            return None
        if fn in ("mul", "div"):
            return self._node(self._scaled(linear, self._factor(fn, given)))
        if linear.core.op == "contract" and linear.shift is None:
            return None
        return self._node(self._shifted(linear, self._term(fn, given)))

    def _linear(self, node: Node) -> _Linear | None:
        """The linear map that `node` is, with its bias, unless others read it too."""
        if self.users.get(node, 1) > 1:
            return None
        if is_convolution(node) and all(self.known(x) for x in node.inputs[1:]):
            return _Linear(node, node.inputs[1], (*node.inputs, None)[2])
        if node.op == "contract" and self.known(node.inputs[1]):
            return _Linear(node, node.inputs[1], None)
        if node.op == "map" and node.attr[0] in ("add", "sub"):
            return self._biased(node.attr[0], *node.inputs)
        return None

    def _biased(self, fn: str, core: Node, bias: Node) -> _Linear | None:
        """A product with a bias in an addition of its own."""
        if core.op != "contract" and fn == "add":
            core, bias = bias, core
        if core.op != "contract" or (linear := self._linear(core)) is None:
            return None
        given = self._per_channel(bias, linear)
        return None if given is None else replace(linear, shift=self._term(fn, given))

    def _per_channel(self, node: Node, linear: _Linear) -> Node | None:
        """`node` as one number for each channel, or one for all, where weights decide it."""
        source = node.inputs[0] if node.op == "expand" else node
        if not self.known(source) or not any(n.op == "input" for n in topological([source])):
            return None
        channel = linear.channels - (len(node.shape) - len(source.shape))
        others = [s for d, s in enumerate(source.shape) if d != channel]
        if not all(s.is_const(1) for s in others):
            return None
        if channel < 0 or source.shape[channel].is_const(1):
            return self.build.reshape(source, ())
        return self.build.reshape(source, source.shape[channel : channel + 1])

    def _factor(self, fn: str, given: Node) -> Node:
        one = self.build.const(1.0, given.dtype)
        return given if fn == "mul" else self.build.map("div", [one, given], given.dtype)

    def _term(self, fn: str, given: Node) -> Node:
        return given if fn == "add" else self.build.map("neg", [given], given.dtype)

    def _scaled(self, linear: _Linear, factor: Node) -> _Linear:
        if linear.core.op == "opaque":
            weight = self._scaled_filter(linear.core, linear.weight, factor)
        else:
            weight = self._scaled_matrix(linear.weight, factor)
        shift = linear.shift and self.build.map("mul", [linear.shift, factor], factor.dtype)
        return replace(linear, weight=weight, shift=shift)

    def _scaled_matrix(self, weight: Node, factor: Node) -> Node:
        """Columns are scaled; a transposed matrix stays one, for the sake of its layout."""
        if weight.op != "permute":
            return self.build.map("mul", [weight, factor], factor.dtype)
        if factor.shape:
            shape = [Size.of(1)] * len(weight.shape)
            shape[weight.attr[-1]] = factor.shape[0]
            factor = self.build.reshape(factor, shape)
        scaled = self.build.map("mul", [weight.inputs[0], factor], factor.dtype)
        return self.build.permute(scaled, weight.attr)

    def _scaled_filter(self, core: Node, weight: Node, factor: Node) -> Node:
        """A filter is [outputs, ...], or [inputs, outputs of a group, ...] where transposed."""
        how, groups = core.attr[2], core.attr[2].groups
        one, shape = Size.of(1), weight.shape
        lead: tuple[Size, ...] = (weight.shape[0], one)
        if how.transposed:
            shape = (groups, weight.shape[0] // groups, *weight.shape[1:])
            lead = (groups, one, weight.shape[1])
        if factor.shape:
            factor = self.build.reshape(factor, (*lead, *[one] * len(weight.shape[2:])))
        wide = self.build.map("mul", [self.build.reshape(weight, shape), factor], factor.dtype)
        return self.build.reshape(wide, weight.shape)

    def _shifted(self, linear: _Linear, term: Node) -> _Linear:
        if linear.shift is not None:
            term = self.build.map("add", [linear.shift, term], term.dtype)
        return replace(linear, shift=term)

    def _node(self, linear: _Linear) -> Node:
        """The program's node for a linear map."""
        core, weight, shift = linear.core, linear.weight, linear.shift
        x = core.inputs[0]
        if core.op == "opaque":
            bias = shift and self.build.expand(shift, [core.shape[1]])
            return convolution(self.build, core.shape, x, weight, bias, core.attr[2])
        product = self.build.node("contract", [x, weight], core.shape, core.dtype)
        return product if shift is None else self.build.map("add", [product, shift], core.dtype)
