"""Tripwires for what outlives a call: module globals, attributes, caches, counters. In Python."""

import ast
from collections.abc import Iterator
from fnmatch import fnmatchcase

from kernelevolve.languages._screening.found import Found, Function, Names, functions, targets

SETTING_UP = {"__init__", "prepare", "reset_parameters", "__post_init__", "setup", "_pack", "pack"}
"""Methods that run before the first call."""
MOST_ARGUMENTS = 2
"""A container's method takes no more; a kernel that happens to be called `add` does."""
WRITERS = {
    "append", "extend", "insert", "add", "update", "setdefault", "pop", "popitem", "clear",
    "remove", "discard", "appendleft", "__setitem__",
}  # fmt: skip
DISPLAYS = ast.Dict | ast.List | ast.Set | ast.DictComp | ast.ListComp | ast.SetComp
CONTAINERS = (
    "dict", "list", "set", "bytearray", "iter", "collections.*", "types.SimpleNamespace",
    "weakref.*", "array.array", "itertools.count", "numpy.*", "torch.empty*", "torch.zeros*",
    "torch.ones*", "torch.full*", "torch.tensor", "torch.rand*",
)  # fmt: skip
"""What makes something that can be changed; a library that is loaded is none."""


def findings(tree: ast.Module, names: Names) -> Iterator[Found]:
    """What functions write that the next call can read."""
    shared = _globals(tree, names)
    setting_up = _called_by_setup(tree)
    for function in functions(tree):
        yield from _defaults(function)
        name = getattr(function, "name", "")
        before = name in SETTING_UP or name in setting_up
        for node in _own_nodes(function):
            yield from _global_statement(node)
            yield from _writes_shared(node, shared)
            yield from _writes_class(node, names)
            if not before:
                yield from _writes_self(node)
                yield from _lookup_by_shape(node)


def _globals(tree: ast.Module, names: Names) -> set[str]:
    """Names at module level that hold something that can be changed."""
    own = {n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    held = {
        target.id
        for statement in tree.body
        if _can_be_changed(getattr(statement, "value", None), names, own)
        for target in targets(statement)
        if isinstance(target, ast.Name)
    }
    return held | own


def _can_be_changed(value: ast.AST | None, names: Names, own: set[str]) -> bool:
    if isinstance(value, ast.Tuple):
        return any(_can_be_changed(item, names, own) for item in value.elts)
    if not isinstance(value, ast.Call):
        return isinstance(value, DISPLAYS)
    name = names.dotted(value.func) or ""
    return name in own or any(fnmatchcase(name, pattern) for pattern in CONTAINERS)


def _called_by_setup(tree: ast.Module) -> set[str]:
    """Methods that set-up calls and nothing else does."""
    calls: dict[str, set[str]] = {}
    for function in functions(tree):
        caller = getattr(function, "name", "")
        for node in ast.walk(function):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id="self"), attr=name)):
                    calls.setdefault(name, set()).add(caller)
    return {name for name, callers in calls.items() if callers <= SETTING_UP}


def _own_nodes(function: Function) -> Iterator[ast.AST]:
    """Everything in a function, but for the functions inside it."""
    body = function.body if isinstance(function.body, list) else [function.body]
    waiting: list[ast.AST] = list(body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, Function):
            waiting += ast.iter_child_nodes(node)


def _defaults(function: Function) -> Iterator[Found]:
    given = [*function.args.defaults, *function.args.kw_defaults]
    for default in given:
        if isinstance(default, ast.Dict | ast.List | ast.Set):
            text = "a default argument that can be changed is the same object in every call"
            yield Found("kept_state", text, default.lineno)


def _global_statement(node: ast.AST) -> Iterator[Found]:
    if isinstance(node, ast.Global | ast.Nonlocal):
        text = f"{', '.join(node.names)}: a variable that outlives the call"
        yield Found("kept_state", text, node.lineno)


def _writes_shared(node: ast.AST, shared: set[str]) -> Iterator[Found]:
    """`CACHE[key] = out`, `CALLS.append(x)`, `forward.calls = 1`."""
    for target in targets(node):
        name = _root(target)
        if name in shared and not isinstance(target, ast.Name):
            text = f"{name}: what one call writes there, the next can read"
            yield Found("kept_state", text, target.lineno)
    match node:
        case ast.Call(func=ast.Attribute(attr=method, value=place)) if _writes(node):
            if _root(place) in shared:
                text = f"{_root(place)}.{method}(): what one call writes there, the next can read"
                yield Found("kept_state", text, node.lineno)


def _writes_class(node: ast.AST, names: Names) -> Iterator[Found]:
    """`type(self).seen = x`, `self.__class__.seen = x`."""
    for target in targets(node):
        place = target.value if isinstance(target, ast.Attribute | ast.Subscript) else None
        match place:
            case ast.Call(func=ast.Name(id="type")) | ast.Attribute(attr="__class__"):
                text = "an attribute of the class outlives the module that sets it"
                yield Found("kept_state", text, target.lineno)


def _writes_self(node: ast.AST) -> Iterator[Found]:
    """Attributes of the module that a call changes."""
    for target in targets(node):
        if not isinstance(target, ast.Attribute | ast.Subscript) or _root(target) != "self":
            continue
        if isinstance(node, ast.AugAssign):
            text = f"{ast.unparse(target)} counts calls: the first ones may differ from the rest"
            yield Found("counter", text, target.lineno)
        else:
            text = f"{ast.unparse(target)} is kept for the next call"
            yield Found("kept_state", text, target.lineno)
    match node:
        case ast.Call(func=ast.Attribute(value=place)) if _writes(node):
            if _root(place) == "self":
                text = f"{ast.unparse(place)} is kept for the next call"
                yield Found("kept_state", text, node.lineno)


def _writes(call: ast.Call) -> bool:
    method = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    return method in WRITERS and len(call.args) <= MOST_ARGUMENTS


def _lookup_by_shape(node: ast.AST) -> Iterator[Found]:
    """`self.outputs[x.shape]`: one answer for all inputs of a shape."""
    match node:
        case ast.Subscript(value=ast.Attribute() as place, slice=index):
            parts: list[ast.AST] = [index]
        case ast.Call(func=ast.Attribute(attr="get", value=place), args=args):
            parts = list(args)
        case _:
            return
    by_shape = any(
        isinstance(inner, ast.Attribute) and inner.attr in ("shape", "size", "stride")
        for part in parts
        for inner in ast.walk(part)
    )
    if by_shape and _root(place) == "self":
        text = f"{ast.unparse(place)} is looked up by shape: other contents of the same shape"
        yield Found("shape_cache", text, node.lineno)


def _root(node: ast.AST) -> str | None:
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None
