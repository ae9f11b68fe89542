"""Tripwires for the candidate as a whole: is there a kernel, is it called, is it the reference."""

import ast
from collections.abc import Iterator

from kernelevolve.core.candidate import Candidate
from kernelevolve.core.task import Task
from kernelevolve.languages._screening.found import Found, Function, Names, parsed

LOADERS = (
    "kernelevolve.runtime.*.load", "torch.utils.cpp_extension.load",
    "torch.utils.cpp_extension.load_inline", "load", "load_inline", "cpp.load",
)  # fmt: skip
DECORATORS = ("triton.jit", "triton.autotune", "cutlass.cute.jit", "cutlass.cute.kernel")


def findings(tree: ast.Module, candidate: Candidate, task: Task) -> Iterator[Found]:
    """At most one of each, at the line of `ModelNew`."""
    names = Names(tree)
    classes = {n.name: n for n in tree.body if isinstance(n, ast.ClassDef)}
    model = classes.get("ModelNew")
    kernels = _kernels(tree, names)
    line = model.lineno if model else 1
    if model is not None and _resubmitted(model, task):
        yield Found("resubmitted", "the reference's own class under another name", line)
    if not kernels:
        text = "no kernel of its own: whatever is faster is a library's"
        yield Found("no_kernel", text, line)
    elif model is not None and not (kernels & _reachable(tree, model)):
        text = f"{', '.join(sorted(kernels))}: loaded, and never called by ModelNew"
        yield Found("unused_kernel", text, line)


def _kernels(tree: ast.Module, names: Names) -> set[str]:
    """Names and attributes that hold native code."""
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Assign(value=ast.Call(func=function), targets=places):
                if _loads(function, names):
                    found |= {_last(place) for place in places}
            case ast.FunctionDef(decorator_list=decorators):
                if any(_decorated(d, names) for d in decorators):
                    found.add(node.name)
            case ast.Attribute(attr="ops", value=ast.Name(id="torch")):
                found.add("ops")
    return found - {""}


def _loads(function: ast.expr, names: Names) -> bool:
    name = names.dotted(function) or ""
    return name in LOADERS or (name.startswith("kernelevolve.runtime.") and name.endswith(".load"))


def _decorated(decorator: ast.expr, names: Names) -> bool:
    function = decorator.func if isinstance(decorator, ast.Call) else decorator
    return names.dotted(function) in DECORATORS


def _last(place: ast.expr) -> str:
    match place:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def _reachable(tree: ast.Module, model: ast.ClassDef) -> set[str]:
    """Names that ModelNew reads in its methods, and those that what it reads reads in turn."""
    defined = {n.name: n for n in tree.body if isinstance(n, ast.ClassDef | Function)}
    seen: set[str] = set()
    waiting: list[ast.AST] = [model]
    while waiting:
        for node in ast.walk(waiting.pop()):
            match node:
                case ast.Name(id=name, ctx=ast.Load()) | ast.Attribute(attr=name, ctx=ast.Load()):
                    if name not in seen and name in defined:
                        waiting.append(defined[name])
                    seen.add(name)
    return seen


def _resubmitted(model: ast.ClassDef, task: Task) -> bool:
    reference = parsed(task.source)
    if reference is None:
        return False
    found = (n for n in reference.body if isinstance(n, ast.ClassDef) and n.name == "Model")
    own = next(found, None)
    return own is not None and _normal(own) == _normal(model)


def _normal(model: ast.ClassDef) -> str:
    """A class without what a copier would change: docstrings, annotations, local names."""
    copy = ast.parse(ast.unparse(model)).body[0]
    local = {n.arg for n in ast.walk(copy) if isinstance(n, ast.arg)}
    local |= {
        n.id for n in ast.walk(copy) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    }
    places: dict[str, str] = {model.name: "model"}
    for node in ast.walk(copy):
        _bare(node)
    for node in ast.walk(copy):
        if isinstance(node, ast.Name) and node.id in {*local, model.name}:
            node.id = places.setdefault(node.id, f"local{len(places)}")
        elif isinstance(node, ast.arg):
            node.arg = places.setdefault(node.arg, f"local{len(places)}")
    return ast.dump(copy)


def _bare(node: ast.AST) -> None:
    """Take away what does nothing."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        first = node.body[0]
        text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
        node.body = node.body[1:] if text and len(node.body) > 1 else node.body
    if isinstance(node, ast.ClassDef):
        node.name = "Model"
    elif isinstance(node, ast.FunctionDef):
        node.returns = None
    elif isinstance(node, ast.arg):
        node.annotation = None
