"""Algebra on a program: cheaper orders of products, and sums moved through linear maps."""

from __future__ import annotations

from collections.abc import Callable

from kernelevolve.programmers.builtin.prims import Builder, Node, Program


def rewrite(program: Program, build: Builder, algebra: bool, library: bool) -> tuple[Program, bool]:
    """The program after the wanted rewrites, and whether any changed the arithmetic."""
    return program, False


def transform(program: Program, build: Builder, rule: Callable[[Node], Node | None]) -> Program:
    """Apply `rule` to every node, operands first; None keeps a node."""
    made: dict[Node, Node] = {}

    def visit(node: Node) -> Node:
        if node not in made:
            inputs = [visit(x) for x in node.inputs]
            same = all(a is b for a, b in zip(inputs, node.inputs, strict=True))
            fresh = node
            if not same:
                fresh = build.node(node.op, inputs, node.shape, node.dtype, node.attr)
            made[node] = rule(fresh) or fresh
        return made[node]

    outputs = tuple(visit(n) for n in program.outputs)
    return Program(outputs, tuple((b, visit(n)) for b, n in program.mutations))
