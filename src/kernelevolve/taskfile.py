"""Reads a task file as data: its declarations are literals, and nothing of it is executed."""

import ast
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kernelevolve.core.errors import TaskError
from kernelevolve.core.task import Task, Tolerance, Workload

DECLARATIONS = (
    "WORKLOADS",
    "HELD_OUT",
    "TOLERANCE",
    "PRECISION",
    "MODE",
    "BACKWARD",
    "RANDOMISE",
)
EXAMPLE = 'WORKLOADS = {"small": {"rows": 512}}'


def read(path: Path, inputs: Path | None = None) -> Task:
    """The task in `path`, a KernelBench-format file with optional declarations.

    Args:
        path: a Python file that defines `Model`, `get_inputs` and `get_init_inputs`.
        inputs: captured inputs (`torch.save` of a list of tensors), which become a workload
            named `captured`.

    Raises:
        TaskError: it cannot be read, is not Python, or a declaration has another form.
    """
    try:
        source = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise TaskError(f"{path}: {reason}; give a Python file that defines Model") from error
    data = _captured(inputs) if inputs else None
    task = parse(path.stem, source, sha256(data).hexdigest() if data else None, str(path))
    if data:
        task.attach(data)
    return task


def parse(name: str, source: str, captured: str | None = None, where: str = "") -> Task:
    """The same from text; `where` names it in messages, `captured` is a blob."""
    where = where or name
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError) as error:
        line = f":{error.lineno}" if isinstance(error, SyntaxError) else ""
        raise TaskError(f"{where}{line}: not Python: {error}") from error
    _require_names(tree, where, with_inputs=captured is None)
    declared = _declarations(tree, where)
    try:
        return Task(
            name=name,
            source=source,
            workloads=_workloads(declared, captured, where),
            tolerance=Tolerance(**declared.get("TOLERANCE", {})),
            precision=declared.get("PRECISION", "strict"),
            mode=declared.get("MODE"),
            backward=declared.get("BACKWARD", False),
            randomise=declared.get("RANDOMISE", {}),
            statement=ast.get_docstring(tree) or "",
            captured=captured,
        )
    except (ValidationError, TypeError) as error:
        raise TaskError(f"{where}: {_first_problem(error)}") from error


def _require_names(tree: ast.Module, where: str, *, with_inputs: bool) -> None:
    defined = {name for node in tree.body for name in _defines(node)}
    if "*" in defined:
        return
    wanted = ["Model", *(["get_inputs"] if with_inputs else [])]
    missing = [name for name in wanted if name not in defined]
    if missing:
        raise TaskError(
            f"{where}: does not define {' or '.join(missing)}; a task file defines "
            "class Model(nn.Module), get_inputs() and get_init_inputs() at its top level"
        )


def _defines(node: ast.stmt) -> list[str]:
    match node:
        case ast.ClassDef() | ast.FunctionDef():
            return [node.name]
        case ast.Assign():
            return [
                t.id for target in node.targets for t in ast.walk(target) if isinstance(t, ast.Name)
            ]
        case ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
        case ast.Import() | ast.ImportFrom():
            return [alias.asname or alias.name for alias in node.names]
        case ast.If() | ast.Try():
            return [
                name
                for child in ast.iter_child_nodes(node)
                if isinstance(child, ast.stmt)
                for name in _defines(child)
            ]
        case _:
            return []


def _declarations(tree: ast.Module, where: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for node in tree.body:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        for name in set(_defines(node)) & set(DECLARATIONS):
            try:
                found[name] = ast.literal_eval(node.value)
            except (ValueError, TypeError) as error:
                raise TaskError(
                    f"{where}:{node.lineno}: {name} must be a literal, for example {EXAMPLE}"
                ) from error
    return found


def _workloads(declared: dict[str, Any], captured: str | None, where: str) -> tuple[Workload, ...]:
    shown = _named_sizes("WORKLOADS", declared, where)
    held_out = _named_sizes("HELD_OUT", declared, where)
    both = set(shown) & set(held_out)
    if both:
        raise TaskError(f"{where}: {sorted(both)[0]!r} is in WORKLOADS and in HELD_OUT")
    workloads = [Workload(name=n, sizes=s) for n, s in shown.items()]
    if captured is not None:
        workloads.append(Workload(name="captured", captured=True))
    return (
        *(workloads or [Workload(name="default")]),
        *(Workload(name=n, sizes=s, held_out=True) for n, s in held_out.items()),
    )


def _named_sizes(name: str, declared: dict[str, Any], where: str) -> dict[str, dict[str, Any]]:
    value = declared.get(name, {})

    def names_something(v: object) -> bool:
        return isinstance(v, dict) and all(isinstance(k, str) for k in v)

    if not names_something(value) or not all(map(names_something, value.values())):
        raise TaskError(f"{where}: {name} maps names to sizes, for example {EXAMPLE}")
    return dict(value)


def _first_problem(error: ValidationError | TypeError) -> str:
    if isinstance(error, TypeError):
        return f"a declaration has the wrong form: {error}"
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    return f"{field.upper()} = {first['input']!r}: {first['msg'].lower()}"


def _captured(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TaskError(
            f"inputs {path}: {error.strerror}; give a file written by torch.save([tensor, ...])"
        ) from error
    if not data:
        raise TaskError(f"inputs {path}: the file is empty")
    return data
