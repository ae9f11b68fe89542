"""What the rules share: a finding, and names as Python resolves them."""

import ast
from collections.abc import Iterator
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import NamedTuple


class Found(NamedTuple):
    """A finding in one file."""

    rule: str
    reason: str
    line: int


class Rule(NamedTuple):
    """Names that touch a rule, as `fnmatch` patterns."""

    name: str
    reason: str
    patterns: tuple[str, ...]

    def matches(self, name: str) -> bool:
        """Whether a name, or the module that it lies in, is one of them."""
        return any(fnmatchcase(name, p) or fnmatchcase(name, f"{p}.*") for p in self.patterns)


def parsed(text: str) -> ast.Module | None:
    """The tree, or None for what Python cannot parse, nested without end or not."""
    with suppress(SyntaxError, ValueError, RecursionError, MemoryError):
        tree = ast.parse(text)
        ast.dump(tree)
        return tree
    return None


class Names:
    """Which module or function a name in the source stands for."""

    def __init__(self, tree: ast.Module) -> None:
        self.imported: dict[str, str] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    bound = alias.asname or alias.name.partition(".")[0]
                    self.imported[bound] = alias.name if alias.asname else bound
            elif isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    self.imported[alias.asname or alias.name] = f"{node.module}.{alias.name}"

    def dotted(self, node: ast.AST) -> str | None:
        """`torch.nn.functional.relu` for `F.relu`; None for what is not a chain of names."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return None
        return ".".join([self.imported.get(node.id, node.id), *reversed(parts)])

    def outside(self, node: ast.AST) -> bool:
        """Whether it is something imported, or an attribute of it."""
        while isinstance(node, ast.Attribute):
            node = node.value
        return isinstance(node, ast.Name) and node.id in self.imported


Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


def functions(tree: ast.AST) -> Iterator[Function]:
    """All functions, methods and lambdas."""
    return (n for n in ast.walk(tree) if isinstance(n, Function))


def targets(node: ast.AST) -> list[ast.expr]:
    """What a statement assigns to, tuples taken apart."""
    match node:
        case ast.Assign(targets=found):
            waiting = list(found)
        case ast.AugAssign(target=target) | ast.AnnAssign(target=target, value=ast.expr()):
            waiting = [target]
        case ast.Delete(targets=found):
            waiting = list(found)
        case ast.For(target=target) | ast.NamedExpr(target=target):
            waiting = [target]
        case _:
            return []
    flat: list[ast.expr] = []
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, ast.Tuple | ast.List):
            waiting[:0] = one.elts
        else:
            flat.append(one.value if isinstance(one, ast.Starred) else one)
    return flat
