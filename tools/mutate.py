"""Which changes of a module its tests do not notice.

`PYTHONPATH=src python tools/mutate.py src/kernelevolve/core/graph.py tests/core/test_graph.py`

Every mutant is the module with one node of its syntax tree changed, tested in a fork of this
process, which has imported what it needs already: one costs a fraction of a second.
"""

import argparse
import ast
import gc
import importlib
import json
import os
import resource
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import hypothesis  # noqa: F401
import pytest

ROOT = Path(__file__).resolve().parent.parent
SECONDS, MEMORY = 10.0, 8 << 30
"""Of processor time, so that on a busy machine no mutant is taken for one that never ends."""
LEAST = 0.8
OPTIONS = [
    "-x", "--noconftest", "--timeout=0", "--hypothesis-profile=ci", "-p", "no:cacheprovider",
    "-p", "no:xdist", "-p", "no:unraisableexception", "-Wignore::pytest.PytestAssertRewriteWarning",
]  # fmt: skip
UNTOUCHED = {"annotation", "returns", "decorator_list"}
OPERATORS: dict[type[ast.AST], tuple[type[ast.AST], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE), ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,), ast.NotIn: (ast.In,), ast.And: (ast.Or,), ast.Or: (ast.And,),
    ast.Add: (ast.Sub,), ast.Sub: (ast.Add,), ast.Mult: (ast.Div,), ast.Div: (ast.Mult,),
    ast.FloorDiv: (ast.Mult,), ast.Mod: (ast.Mult,), ast.Pow: (ast.Mult,),
    ast.LShift: (ast.RShift,), ast.BitAnd: (ast.BitOr,), ast.BitOr: (ast.BitAnd,),
}  # fmt: skip
SWAPS = dict(min="max", max="min", any="all", all="any", minimum="maximum", maximum="minimum")


@dataclass
class Mutant:
    """A node of a syntax tree, what comes in its stead, and where it hangs."""

    old: ast.expr | ast.stmt
    new: ast.AST
    parent: ast.AST
    name: str
    index: int | None

    def apply(self) -> None:
        """Change the tree, for good."""
        if self.index is None:
            setattr(self.parent, self.name, self.new)
        else:
            getattr(self.parent, self.name)[self.index] = self.new

    def __str__(self) -> str:
        before, after = (ast.unparse(node).splitlines()[0] for node in (self.old, self.new))
        return f"{self.old.lineno}: {before}  ->  {after}"


def mutants(parent: ast.AST) -> Iterator[Mutant]:
    """All of them, in the order of the source; annotations, docstrings and asserts are left."""
    for name, value in ast.iter_fields(parent):
        for index, node in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(node, ast.AST) and not (name in UNTOUCHED or _left(node)):
                if isinstance(node, ast.expr | ast.stmt):
                    for new in _changed(node):
                        yield Mutant(node, new, parent, name, index)
                if not isinstance(node, ast.JoinedStr):
                    yield from mutants(node)


def _left(node: ast.AST) -> bool:
    docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return docstring or isinstance(node, ast.Assert) or ast.unparse(node).startswith("Literal[")


def _changed(node: ast.AST) -> Iterator[ast.AST]:
    yield from _other_operators(node)
    yield from _other_words(node)
    match node:
        case ast.UnaryOp():
            yield node.operand
        case ast.Return(value=ast.expr() as value) if ast.unparse(value) != "None":
            yield _with(node, value=None)
        case ast.Break() | ast.Continue():
            other = ast.Continue() if isinstance(node, ast.Break) else ast.Break()
            yield ast.copy_location(other, node)
        case ast.Expr() | ast.Raise() | ast.AugAssign() | ast.Assign():
            yield ast.copy_location(ast.Pass(), node)
        case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test):
            if not isinstance(test, ast.Compare | ast.BoolOp | ast.UnaryOp):
                yield _with(node, test=ast.UnaryOp(op=ast.Not(), operand=test))


def _other_words(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.Constant(value=bool(truth)):
            yield _with(node, value=not truth)
        case ast.Constant(value=int(number) | float(number)):
            yield _with(node, value=number + 1)
        case ast.Constant(value=str()) | ast.JoinedStr() if ast.unparse(node) != "''":
            yield ast.copy_location(ast.Constant(value=""), node)
        case ast.Name(id=word) if word in SWAPS:
            yield _with(node, id=SWAPS[word])
        case ast.Attribute(attr=word) if word in SWAPS:
            yield _with(node, attr=SWAPS[word])


def _other_operators(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Compare):
        for place, operator in enumerate(node.ops):
            for other in OPERATORS.get(type(operator), ()):
                yield _with(node, ops=[*node.ops[:place], other(), *node.ops[place + 1 :]])
    elif isinstance(node, ast.BinOp | ast.AugAssign | ast.BoolOp):
        yield from (_with(node, op=other()) for other in OPERATORS.get(type(node.op), ()))


def _with(node: ast.AST, **fields: object) -> ast.AST:
    return ast.copy_location(type(node)(**(dict(ast.iter_fields(node)) | fields)), node)


def module_of(path: Path) -> str:
    """Its dotted name."""
    return ".".join(path.resolve().relative_to(ROOT / "src").with_suffix("").parts)


def install(path: Path, tree: ast.Module) -> None:
    """As if the module at `path` were imported from `tree`."""
    name = module_of(path)
    package, _, stem = name.rpartition(".")
    module = sys.modules[name] = ModuleType(name)
    setattr(sys.modules[package], stem, module)
    exec(compile(ast.fix_missing_locations(tree), str(path), "exec"), vars(module))  # noqa: S102


def passes(path: Path, tree: ast.Module, tests: list[str]) -> bool:
    """Whether the tests pass, in a fork, on the module made of `tree`."""
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1] == 0
    code = 1
    try:
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        for stream in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        install(path, tree)
        code = int(pytest.main([*OPTIONS, *tests]))
    finally:
        os._exit(code)


def trials(path: Path, tests: list[str], lines: list[int] | None) -> Iterator[tuple[Mutant, bool]]:
    """Each mutant, and whether the tests pass on it."""
    source = path.read_text(encoding="utf-8")
    if not passes(path, ast.parse(source), tests):
        raise SystemExit("the tests fail without any change")
    for number, like in enumerate(mutants(ast.parse(source))):
        if not lines or like.old.lineno in lines:
            tree = ast.parse(source)
            list(mutants(tree))[number].apply()
            yield like, passes(path, tree, tests)


def main() -> int:
    """Exit code 1 where too few mutants are killed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("module", type=Path)
    parser.add_argument("tests", nargs="+", help="files that need no conftest.py")
    parser.add_argument("--json", type=Path, help="file for the counts and survivors")
    parser.add_argument("--lines", type=int, nargs="*", help="only mutants of these lines")
    options = parser.parse_args()
    importlib.import_module(module_of(options.module))
    gc.freeze()
    survivors: list[str] = []
    count = 0
    for mutant, survives in trials(options.module, options.tests, options.lines):
        count += 1
        if survives:
            survivors.append(str(mutant))
            print(mutant, flush=True)
    share = 1 - len(survivors) / max(1, count)
    print(f"{options.module.name}: {count - len(survivors)} of {count} killed ({share:.1%})")
    if options.json:
        found = {"mutants": count, "survivors": survivors}
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return int(share < LEAST)


if __name__ == "__main__":
    sys.exit(main())
