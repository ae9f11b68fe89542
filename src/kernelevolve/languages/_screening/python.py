"""Tripwires in Python, over the syntax tree."""

import ast
from collections.abc import Callable, Iterator
from functools import cache

from kernelevolve.languages._screening import state
from kernelevolve.languages._screening.found import Found, Names, Rule, targets
from kernelevolve.languages._screening.names import ATTRIBUTES, METHODS, NAMES, PATHS

Look = Callable[[ast.AST, Names], Iterator[Found]]
BUILTINS = frozenset(
    {"open", "exec", "eval", "compile", "__import__", "globals", "locals", "vars", "exit", "quit"}
)
WRITERS = ("setattr", "delattr", "object.__setattr__", "type.__setattr__")
READERS = ("getattr", "hasattr")
CONTAINERS = ("tuple", "list", "dict", "collections.OrderedDict", "collections.UserDict")


def findings(tree: ast.Module) -> Iterator[Found]:
    """Everything in one file, in no order."""
    names = Names(tree)
    for node in ast.walk(tree):
        for look in LOOKS:
            yield from look(node, names)
    yield from state.findings(tree, names)


def _imports(node: ast.AST, names: Names) -> Iterator[Found]:
    match node:
        case ast.Import(names=found):
            modules = [alias.name for alias in found]
        case ast.ImportFrom(module=str(module), names=found):
            modules = [f"{module}.{alias.name}" for alias in found]
        case _:
            return
    for module in modules:
        yield from _named(module, node.lineno)


def _uses(node: ast.AST, names: Names) -> Iterator[Found]:
    if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
        name = names.dotted(node)
        if name and (names.outside(node) or name in BUILTINS):
            yield from _named(name, node.lineno)


def _named(name: str, line: int) -> Iterator[Found]:
    for rule in _rules_of(name):
        yield Found(rule.name, f"{name}: {rule.reason}", line)


@cache
def _rules_of(name: str) -> tuple[Rule, ...]:
    return tuple(rule for rule in NAMES if rule.matches(name))


def _attributes(node: ast.AST, names: Names) -> Iterator[Found]:
    if isinstance(node, ast.Attribute):
        for rule, (reason, words) in ATTRIBUTES.items():
            if node.attr in words:
                yield Found(rule, f".{node.attr}: {reason}", node.lineno)


def _texts(node: ast.AST, names: Names) -> Iterator[Found]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        for rule, (reason, beginnings) in PATHS.items():
            if node.value.startswith(beginnings):
                yield Found(rule, f"{node.value[:40]!r}: {reason}", node.lineno)


def _methods(node: ast.AST, names: Names) -> Iterator[Found]:
    if isinstance(node, ast.FunctionDef) and node.name in METHODS:
        text = f"{node.name}: a special method that a kernel has no use for"
        yield Found(METHODS[node.name], text, node.lineno)


def _classes(node: ast.AST, names: Names) -> Iterator[Found]:
    if not isinstance(node, ast.ClassDef):
        return
    for base in node.bases:
        name = names.dotted(base) or ""
        if name.endswith(("Tensor", "torch.nn.Parameter", "nn.Parameter", "TorchDispatchMode")):
            text = f"class {node.name}({name}): a tensor that can compute when it is read"
            yield Found("tensor_class", text, node.lineno)
        elif name in CONTAINERS:
            text = f"class {node.name}({name}): a container that can compute when it is read"
            yield Found("tensor_class", text, node.lineno)
    if any(k.arg == "metaclass" for k in node.keywords):
        text = f"class {node.name}: a metaclass changes what plain code does"
        yield Found("dynamic_code", text, node.lineno)


def _patches(node: ast.AST, names: Names) -> Iterator[Found]:
    """Assignments to attributes of what was imported, or of functions on an object."""
    for target in targets(node):
        place = target.value if isinstance(target, ast.Subscript) else target
        if not isinstance(place, ast.Attribute):
            continue
        name = names.dotted(place) or place.attr
        if name.startswith("torch.backends."):
            text = f"{name}: changes a setting of the whole process"
            yield Found("global_state", text, node.lineno)  # type: ignore[attr-defined]
        elif names.outside(place.value):
            text = f"{name} is replaced: others that use it get the replacement"
            yield Found("patching", text, node.lineno)  # type: ignore[attr-defined]
        elif isinstance(getattr(node, "value", None), ast.Lambda):
            text = f".{place.attr} of an object becomes a function: it may compute when read"
            yield Found("patching", text, node.lineno)  # type: ignore[attr-defined]


def _attribute_calls(node: ast.AST, names: Names) -> Iterator[Found]:
    """`setattr` on what was imported; `getattr` by a name that the source does not show."""
    if not isinstance(node, ast.Call) or len(node.args) < 2:
        return
    called = names.dotted(node.func) or ""
    place, key = node.args[:2]
    itself = isinstance(place, ast.Name) and place.id == "self"
    hidden = names.outside(place) or not isinstance(key, ast.Constant | ast.Name)
    if called in WRITERS and not itself:
        text = f"{called}({ast.unparse(place)}): others that use it get the replacement"
        yield Found("patching", text, node.lineno)
    elif called in READERS and hidden:
        text = f"{called}({ast.unparse(place)}, {ast.unparse(key)[:40]}): hides a name"
        yield Found("dynamic_code", text, node.lineno)


def _fallbacks(node: ast.AST, names: Names) -> Iterator[Found]:
    """A handler that does anything but raise: the kernel may never have run."""
    if not isinstance(node, ast.Try | ast.TryStar):
        return
    for handler in node.handlers:
        if not isinstance(handler.body[-1], ast.Raise):
            text = "try/except: what runs when the kernel fails may not be the kernel"
            yield Found("fallback", text, handler.lineno)


def _identities(node: ast.AST, names: Names) -> Iterator[Found]:
    """Addresses and objects that are compared or looked up: a cache of earlier calls."""
    parts: list[ast.AST] = []
    match node:
        case ast.Compare(left=left, comparators=others, ops=ops):
            parts = [left, *others]
            if any(isinstance(op, ast.Is | ast.IsNot) for op in ops) and _kept(parts, names):
                text = "compares objects of this call with those of an earlier one"
                yield Found("identity_cache", text, node.lineno)
        case ast.Subscript(slice=index):
            parts = [index]
        case ast.Call(func=ast.Attribute(attr="get" | "setdefault" | "pop"), args=args):
            parts = list(args)
        case ast.Call(func=ast.Name(id="hash"), args=args):
            parts = list(args)
        case ast.Assign(value=ast.Tuple() as value):
            parts = [value]
        case ast.Assign(targets=[ast.Attribute()], value=value):
            parts = [value]
    if any(_address(inner) for part in parts for inner in ast.walk(part)):
        text = "a tensor's address or identity is remembered: contents change behind it"
        yield Found("identity_cache", text, node.lineno)  # type: ignore[attr-defined]


def _kept(parts: list[ast.AST], names: Names) -> bool:
    """Whether what an object kept is compared with something that is neither fixed nor imported."""
    fixed = any(isinstance(p, ast.Constant) or names.outside(p) for p in parts)
    return not fixed and any((names.dotted(p) or "").startswith("self.") for p in parts)


def _address(node: ast.AST) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(attr="data_ptr" | "storage" | "untyped_storage")):
            return True
        case ast.Call(func=ast.Name(id="id")):
            return True
    return False


LOOKS: tuple[Look, ...] = (
    _imports, _uses, _attributes, _texts, _methods, _classes, _patches, _attribute_calls,
    _fallbacks, _identities,
)  # fmt: skip
