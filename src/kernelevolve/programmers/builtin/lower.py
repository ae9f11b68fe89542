"""Core ATen operators to primitives (`prims.py`); what has no rule becomes a library call."""

from __future__ import annotations

from typing import Any, TypeAlias

from kernelevolve.programmers.builtin import rules, rules_layers, rules_structure
from kernelevolve.programmers.builtin.ir import Size
from kernelevolve.programmers.builtin.prims import Builder, Node, Program
from kernelevolve.programmers.builtin.rules import RANK, NoRule
from kernelevolve.programmers.builtin.rules_torch import TORCH
from kernelevolve.programmers.builtin.unify import COUNTED, Operation, Traced

Result: TypeAlias = Node | list[Node]
RULES = {**rules.RULES, **rules_structure.RULES, **rules_layers.RULES}


def lower(traced: Traced, build: Builder) -> Program:
    """The traced model in primitives."""
    env: dict[str, Result] = {}
    build.counted = frozenset(s.name for s in traced.symbols if s.source == COUNTED)
    for p in traced.placeholders:
        env[p.name] = build.node("input", (), p.type.shape, p.type.dtype, (p.name,))
        if p.values and not p.type.shape:
            env[p.name] = build.const(p.numbers[0], p.type.dtype)
    for op in traced.operations:
        if op.type is None:
            continue
        env[op.name] = lower_one(op, env, build)
        _measure(env[op.name], build)
    outputs = [_single(env[name]) for name in traced.outputs]
    mutations = tuple((m["buffer"], _single(env[m["name"]])) for m in traced.mutations)
    return Program(tuple(outputs), mutations, tuple(build.measures.values()))


def _measure(made: Result, build: Builder) -> None:
    """Sizes of what a library call made, where only data decide them."""
    for node in made if isinstance(made, list) else [made]:
        for dim, size in enumerate(node.shape if node.op in ("opaque", "pick") else ()):
            build.measure(size, node, f"{{0}}.shape[{dim}]")


def lower_one(op: Operation, env: dict[str, Result], build: Builder) -> Result:
    """One operator: by its rule, or as a library call."""
    name = op.op.removeprefix("aten.").split(".")[0]
    args = [_resolve(a, env) for a in op.args]
    kwargs = {k: _resolve(v, env) for k, v in op.kwargs.items()}
    if name == "getitem":
        return _at(args[0], args[1])
    try:
        if name in RULES and not _complex_dtype(op):
            return RULES[name](build, op.type, *args, **kwargs)
    except (NoRule, TypeError):
        pass
    return opaque(op, env, build)


def _complex_dtype(op: Operation) -> bool:
    types = op.type if isinstance(op.type, list) else [op.type]
    return any(t is not None and t.dtype not in RANK for t in types)


def _at(values: Any, position: int) -> Node:
    if not isinstance(values, list):
        raise NoRule("an item of one tensor")
    return _single(values[position])


def _single(result: Result) -> Node:
    if isinstance(result, list):
        raise NoRule("several tensors where one is used")
    return result


def _resolve(value: Any, env: dict[str, Result]) -> Any:
    if isinstance(value, dict):
        return env[value["ref"]] if "ref" in value else value["dtype"]
    return [_resolve(v, env) for v in value] if isinstance(value, list) else value


def opaque(op: Operation, env: dict[str, Result], build: Builder) -> Result:
    """The operator as a call of torch.ops in forward."""
    inputs: list[Node] = []
    parts = [_python(a, env, inputs) for a in op.args]
    parts += [f"{k}={_python(v, env, inputs)}" for k, v in op.kwargs.items() if v is not None]
    code = f"torch.ops.{op.op}({', '.join(parts)})"
    if isinstance(op.type, list):
        whole = build.node("opaque", inputs, (), "f32", (code, len(op.type)))
        return [
            build.node("pick", [whole], t.shape, t.dtype, (i,)) if t is not None else whole
            for i, t in enumerate(op.type)
        ]
    return build.node("opaque", inputs, op.type.shape, op.type.dtype, (code, 0))


def _python(value: Any, env: dict[str, Result], inputs: list[Node]) -> str:
    """Python text of an argument; tensors become `{i}`."""
    if isinstance(value, dict) and "dtype" in value:
        return f"torch.{TORCH[value['dtype']]}"
    if isinstance(value, dict):
        node = _single(env[value["ref"]])
        if node not in inputs:
            inputs.append(node)
        return f"{{{inputs.index(node)}}}"
    if isinstance(value, list):
        return "[" + ", ".join(_python(v, env, inputs) for v in value) + "]"
    if isinstance(value, Size):
        return value.expr.replace("/", "//")
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return f"float('{value}')"
    return repr(value)
