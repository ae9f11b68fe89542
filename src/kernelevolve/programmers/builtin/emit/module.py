"""The candidate's `model.py`: the reference's own constructor, and a forward that calls kernels."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

from kernelevolve.programmers.builtin.ahead import held_name
from kernelevolve.programmers.builtin.emit.kernel import Segment, Setting, accumulated, segments
from kernelevolve.programmers.builtin.emit.steps import Chained, pointers, writes
from kernelevolve.programmers.builtin.ir import Contraction, Opaque, Size
from kernelevolve.programmers.builtin.rules_torch import TORCH
from kernelevolve.programmers.builtin.unify import Placeholder, Symbol, Traced

NOT_FOR_CANDIDATES = frozenset(
    {
        "get_inputs", "get_init_inputs", "WORKLOADS", "HELD_OUT", "TOLERANCE", "PRECISION", "MODE",
        "BACKWARD", "RANDOMISE",
    }
)  # fmt: skip


class NoClass(Exception):
    """The task's source has no class `Model` with a forward of its own."""


def fallback_module(source: str) -> str:
    """`model.py` that runs the reference's own forward as `ModelNew`."""
    return _rewritten(source, None, None)


@dataclass(frozen=True)
class Backend:
    """How kernels are reached from Python."""

    load: str
    """Statements of the module that make them callable."""
    native: Callable[[Setting, Segment], list[str]]
    """Statements of `forward` that run a segment."""


def cpp_backend(setting: Setting, parts: Sequence[Segment | Opaque]) -> Backend:
    """One shared library, and one call for each segment."""
    threaded = any(isinstance(p, Segment) and p.threaded for p in parts)
    flags = [*setting.plan.flags, *(("-fopenmp",) if threaded else ())]
    load = f"from kernelevolve.runtime import cpp\nlib = cpp.load('kernel.cpp', flags={flags!r})"
    return Backend(load, _native)


def module_source(
    source: str,
    traced: Traced,
    setting: Setting,
    parts: Sequence[Segment | Opaque],
    backend: Backend,
) -> str:
    """`model.py` whose forward runs `parts`.

    Raises:
        NoClass: see there.
    """
    forward = _forward(traced, setting, parts, backend)
    prepare = _prepare(traced, setting, parts, backend)
    return _rewritten(source, forward, prepare, backend.load)


def _rewritten(
    source: str,
    forward: list[str] | None,
    prepare: list[str] | None,
    load: str = "",
) -> str:
    tree = ast.parse(source)
    model = next((n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "Model"), None)
    if model is None:
        if forward is not None:
            raise NoClass("no class Model")
        return f"{source}\nModelNew = Model\n"
    body = [n for n in tree.body if not _is_named(n, NOT_FOR_CANDIDATES)]
    head, rest = _docstring_and_imports(body)
    model.name = "ModelNew"
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id == "Model":
            node.id = "ModelNew"
    if forward is not None:
        _replace_forward(model, forward, prepare or [])
        _keep_arguments(model)
        head += ast.parse("import torch").body
        head += ast.parse(load).body
    tree.body = [*head, *rest]
    return ast.unparse(ast.fix_missing_locations(tree)) + "\n"


def _is_named(node: ast.stmt, names: frozenset[str]) -> bool:
    if isinstance(node, ast.FunctionDef):
        return node.name in names
    if isinstance(node, ast.Assign):
        return any(isinstance(t, ast.Name) and t.id in names for t in node.targets)
    return isinstance(node, ast.If) and "__main__" in ast.unparse(node.test)


def _docstring_and_imports(body: list[ast.stmt]) -> tuple[list[ast.stmt], list[ast.stmt]]:
    head: list[ast.stmt] = [n for n in body if isinstance(n, ast.Import | ast.ImportFrom)]
    text = [n for n in body if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)]
    rest = [n for n in body if n not in head and n not in text]
    head.sort(key=lambda n: not (isinstance(n, ast.ImportFrom) and n.module == "__future__"))
    return head, rest


def _replace_forward(model: ast.ClassDef, forward: list[str], prepare: list[str]) -> None:
    old = next(
        (n for n in model.body if isinstance(n, ast.FunctionDef) and n.name == "forward"), None
    )
    if old is None:
        raise NoClass("Model inherits its forward")
    me = old.args.args[0].arg
    renamed = [] if me == "self" else [f"self = {me}"]
    old.body = ast.parse("\n".join([*renamed, *forward])).body
    old.returns = None
    if prepare:
        head = "ready = None\n@torch.no_grad()\ndef prepare(self):\n"
        text = head + "\n".join(f"    {x}" for x in prepare)
        model.body += ast.parse(text).body


def _keep_arguments(model: ast.ClassDef) -> None:
    """Let the constructor keep those of its arguments that forward reads as sizes."""
    wanted = {
        n.attr
        for f in model.body
        for n in ast.walk(f)
        if isinstance(n, ast.Attribute) and n.attr.startswith("size_")
    }
    for function in model.body:
        if isinstance(function, ast.FunctionDef) and function.name == "__init__":
            me, *names = [a.arg for a in function.args.args]
            text = "\n".join(f"{me}.size_{n} = {n}" for n in names if f"size_{n}" in wanted)
            function.body = [*function.body[:1], *ast.parse(text).body, *function.body[1:]]


def reach(path: str) -> str:
    """Python text that reads a parameter or buffer by its dotted name."""
    text = "self"
    for part in path.split("."):
        text = f"{text}.{part}" if part.isidentifier() else f"getattr({text}, {part!r})"
    return text


def python(size: Size) -> str:
    """A size as Python text."""
    return size.expr.replace("/", "//")


def _bound(p: Placeholder) -> str:
    """A line that gives a placeholder its name."""
    if p.kind == "user_input":
        return f"{p.name} = {p.source}.contiguous()"
    if p.lifted:
        shape, dtype = tuple(int(s.expr) for s in p.type.shape), TORCH[p.type.dtype]
        numbers = ", ".join(_plain(v) for v in p.numbers)
        return f"{p.name} = torch.tensor([{numbers}], dtype=torch.{dtype}).view({shape})"
    return f"{p.name} = {reach(p.source)}"


def _sized(symbols: Sequence[Symbol]) -> list[str]:
    return [f"{s.name} = {s.source}" for s in symbols]


def _used(setting: Setting, parts: Sequence[Segment | Opaque]) -> set[str]:
    names = {name for name, _ in setting.partition.outputs}
    for part in parts:
        names |= set(part.reads if isinstance(part, Opaque) else part.pointers)
    return names


def _forward(
    traced: Traced, setting: Setting, parts: Sequence[Segment | Opaque], backend: Backend
) -> list[str]:
    needed = _used(setting, parts) | {s.source.split(".")[0] for s in traced.symbols}
    lines = [_bound(p) for p in traced.placeholders if p.name in needed]
    lines += _sized(traced.symbols)
    held = [h for h in _held(setting) if h in needed]
    if held or any(isinstance(p, Segment) and p.packed for p in parts):
        lines.append("ready = self.ready or self.prepare()")
    lines += [f"{h} = ready[{h!r}]" for h in held]
    for part in parts:
        lines += [part.code] if isinstance(part, Opaque) else backend.native(setting, part)
    for buffer, name in setting.partition.mutations:
        lines.append(f"{reach(buffer)}.copy_({name})")
    return [*lines, f"return {_returned(traced, setting)}"]


def _returned(traced: Traced, setting: Setting) -> str:
    """Python text of what forward returns."""
    texts = {f"result{i}": text for i, text in enumerate(_results(setting))}
    texts |= {f"plain{i}": _plain(value) for i, value in enumerate(traced.plain)}
    tree = ast.parse(traced.structure, mode="eval")
    return ast.unparse(_Filled(texts).visit(tree))


def _plain(value: Size | float | str | None) -> str:
    """Python text of a value that is no tensor."""
    if isinstance(value, Size):
        return python(value)
    return f"float('{value}')" if isinstance(value, float) and not isfinite(value) else repr(value)


class _Filled(ast.NodeTransformer):
    """Puts expressions where names stand."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self.texts = texts

    def visit_Name(self, node: ast.Name) -> ast.expr:
        text = self.texts.get(node.id)
        return node if text is None else ast.parse(text, mode="eval").body


def _held(setting: Setting) -> list[str]:
    """What forward calls the outputs of the part that runs ahead."""
    count = 0 if setting.ahead is None else len(setting.ahead.partition.outputs)
    return [held_name(number) for number in range(count)]


def _results(setting: Setting) -> list[str]:
    """Python text of each output, in its own shape."""
    texts = []
    for name, node in setting.partition.outputs:
        buffer = setting.partition.buffers.get(name)
        reshaped = node.op == "reshape" if buffer is None else buffer.shape != node.shape
        shape = ", ".join(python(s) for s in node.shape) or "()"
        texts.append(f"{name}.view({shape})" if reshaped else name)
    return texts


def allocated(setting: Setting, name: str, near: str = "") -> str:
    """A statement that makes a buffer, on the device of another one where that is named."""
    buffers, dtype = setting.partition.buffers, setting.dtypes[name]
    given = {node.attr[0]: node.shape for node in setting.partition.inputs}
    if given.get(near) == buffers[name].shape and setting.dtypes[near] == dtype:
        return f"{name} = torch.empty_like({near}, memory_format=torch.contiguous_format)"
    shape = ", ".join(python(s) for s in buffers[name].shape)
    shape = f"({shape},)" if shape else "()"
    device = f", device={near}.device" if near else ""
    return f"{name} = torch.empty({shape}, dtype=torch.{TORCH[dtype]}{device})"


def _native(setting: Setting, segment: Segment) -> list[str]:
    lines = []
    written = {b for s in segment.steps for b in writes(s)}
    for name in segment.pointers:
        if name in written:
            lines.append(allocated(setting, name))
    packed = [f"ready[{name!r}]" for name in segment.packed]
    arguments = [*segment.pointers, *packed, *setting.symbols]
    arguments += ["torch.get_num_threads()"] if segment.threaded else []
    return [*lines, f"lib.{segment.name}({', '.join(arguments)})"]


def _prepare(
    traced: Traced, setting: Setting, parts: Sequence[Segment | Opaque], backend: Backend
) -> list[str]:
    """Computes what is held, then packs the weights of products.

    Sizes that only inputs have do not matter to either.
    """
    packed = [s for p in parts if isinstance(p, Segment) for s in p.packing()]
    if not packed and setting.ahead is None:
        return []
    needed = {b for s in packed for b in pointers(s)} | {
        s.of_weights.split(".")[0] for s in traced.symbols
    }
    lines = ["ready = {}"]
    if setting.ahead is not None:
        lines += _ahead(setting.ahead, backend)
        needed |= _used(setting.ahead, segments(setting.ahead))
    if packed:
        lines += _packing(setting, packed)
    own = [p for p in traced.placeholders if p.kind != "user_input" and p.name in needed]
    head = [_bound(p) for p in own] + [f"{s.name} = {s.of_weights or 1}" for s in traced.symbols]
    return [*head, *lines, "self.ready = ready", "return ready"]


def _ahead(setting: Setting, backend: Backend) -> list[str]:
    """Computes what is held."""
    lines = []
    for part in segments(setting):
        lines += [part.code] if isinstance(part, Opaque) else backend.native(setting, part)
    for number, text in enumerate(_results(setting)):
        name = held_name(number)
        lines.append(f"{name} = ready[{name!r}] = {text}.contiguous()")
    return lines


def _packing(setting: Setting, packed: Sequence[Contraction | Chained]) -> list[str]:
    """Packs weights."""
    lines = ["length = torch.empty((), dtype=torch.int64)"]
    sizes = ", ".join(setting.symbols)
    comma = ", " if sizes else ""
    for step in packed:
        name, dtype = step.name, TORCH[accumulated(step)]
        given = [b if b in setting.weights else "None" for b in pointers(step)]
        lines.append(f"lib.{name}_measure(length{comma}{sizes})")
        lines.append(f"ready[{name!r}] = torch.empty(int(length), dtype=torch.{dtype})")
        lines.append(f"lib.{name}_pack({', '.join(given)}, ready[{name!r}]{comma}{sizes})")
    return lines


__all__ = ["NoClass", "fallback_module", "module_source", "segments"]
