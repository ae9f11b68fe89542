"""The programmer that only turns knobs: other values of what a kernel's author calls tunable."""

import ast
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from kernelevolve.core.candidate import Attempt, Brief, Proposal, SourceFile, Usage
from kernelevolve.core.errors import ProgrammerError
from kernelevolve.core.protocols import Programmer, Workbench
from kernelevolve.core.record import digest
from kernelevolve.core.target import TargetSpec
from kernelevolve.core.task import Task

Value = int | float | bool | str
MOST_SETTINGS = 4096
NATIVE = (
    r"^([ \t]*(?:#[ \t]*define[ \t]+{name}[ \t]+"
    r"|(?:static[ \t]+|inline[ \t]+)*(?:constexpr|const)[ \t]+[\w:]+[ \t]+{name}[ \t]*=[ \t]*))"
    r"([-\w.]+)"
)
"""A constant of C or C++: what stands before its value, and the value."""


@dataclass(frozen=True)
class Tuner:
    """Changes constants named in `TUNABLES = {"BLOCK": [64, 128]}` of a parent's `model.py`.

    A knob's value is what `BLOCK = 128` at the top level of `model.py` says, or `#define BLOCK 128`
    or `constexpr int BLOCK = 128;` in a native source.
    """

    async def study(self, task: Task, target: TargetSpec, bench: Workbench) -> None:
        """See `Programmer`. There is nothing to study."""

    def forecast(self, task: Task, target: TargetSpec, nodes: int) -> Usage:
        """See `Programmer`."""
        return Usage()

    async def propose(self, brief: Brief, bench: Workbench) -> Proposal:
        """Turn one or two knobs of the first parent.

        Raises:
            ProgrammerError: it has none, or every setting was tried.
        """
        parent = brief.parents[0] if brief.parents else None
        knobs = tunables(parent.files) if parent else {}
        if parent is None or not knobs:
            raise ProgrammerError("the parent names no TUNABLES that its sources set")
        tried = {key for attempt in (parent, *brief.history) for key in _settings(attempt)}
        tried |= {key for t in brief.tried if (key := _recorded(t.plan))}
        free = [s for s in _near(knobs, Random(brief.seed)) if _key(s, parent) not in tried]
        if not free:
            raise ProgrammerError("every setting of the parent's TUNABLES was tried")
        chosen = free[0]
        now = {name: knobs[name][0] for name in knobs}
        changed = [f"{n} {now[n]} to {v}" for n, v in chosen.items() if v != now[n]]
        return Proposal(
            files=tuple(_turned(f, chosen) for f in parent.files),
            summary=f"#{parent.number} with {', '.join(changed)}",
            plan=json.dumps({"tuned": _key(chosen, parent)}),
        )


def tunables(files: Sequence[SourceFile]) -> dict[str, tuple[Value, ...]]:
    """By knob its value now, then all that it may have; without those that no source sets."""
    model = next((f.text for f in files if f.path == "model.py"), "")
    found = {}
    for name, values in _declared(model).items():
        now = next((v for f in files if (v := _value(f, name)) is not None), None)
        if now is not None:
            found[name] = (now, *(v for v in values if v != now))
    return {name: values for name, values in found.items() if len(values) > 1}


def _declared(model: str) -> Mapping[str, Sequence[Value]]:
    try:
        body = ast.parse(model).body
    except SyntaxError:
        return {}
    for statement in body:
        match statement:
            case ast.Assign(targets=[ast.Name(id="TUNABLES")], value=value):
                try:
                    declared = ast.literal_eval(value)
                except ValueError:
                    return {}
                return {
                    str(k): list(v)
                    for k, v in (declared.items() if isinstance(declared, dict) else ())
                    if isinstance(v, (list, tuple)) and re.fullmatch(r"\w+", str(k))
                }
    return {}


def _assignment(text: str, name: str) -> ast.expr | None:
    try:
        body = ast.parse(text).body
    except SyntaxError:
        return None
    for statement in body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=found)], value=ast.Constant() as value):
                if found == name:
                    return value
    return None


def _value(file: SourceFile, name: str) -> Value | None:
    if file.path.endswith(".py"):
        constant = _assignment(file.text, name)
        value = constant.value if isinstance(constant, ast.Constant) else None
        return value if isinstance(value, (int, float, bool, str)) else None
    match = re.search(NATIVE.format(name=name), file.text, re.M)
    if match is None:
        return None
    try:
        literal = ast.literal_eval(match[2])
    except (ValueError, SyntaxError):
        return match[2]
    return literal if isinstance(literal, (int, float)) else None


def _turned(file: SourceFile, setting: Mapping[str, Value]) -> SourceFile:
    text = file.text
    for name, value in setting.items():
        if file.path.endswith(".py"):
            constant = _assignment(text, name)
            if constant is not None:
                lines = text.splitlines(keepends=True)
                line = lines[constant.lineno - 1].encode()
                end = constant.end_col_offset
                line = line[: constant.col_offset] + repr(value).encode() + line[end:]
                lines[constant.lineno - 1] = line.decode()
                text = "".join(lines)
        else:
            text = re.sub(NATIVE.format(name=name), rf"\g<1>{value}", text, flags=re.M)
    return SourceFile(path=file.path, text=text)


def _near(knobs: Mapping[str, tuple[Value, ...]], rng: Random) -> Iterator[dict[str, Value]]:
    """Settings that differ from the present one, in one knob first, then in more."""
    now = {name: values[0] for name, values in knobs.items()}
    settings = [
        dict(zip(knobs, values, strict=True))
        for values in itertools.islice(itertools.product(*knobs.values()), MOST_SETTINGS)
    ]
    rng.shuffle(settings)
    distance = {id(s): sum(value != now[name] for name, value in s.items()) for s in settings}
    yield from (s for s in sorted(settings, key=lambda s: distance[id(s)]) if distance[id(s)])


def _key(setting: Mapping[str, Value], parent: Attempt) -> str:
    """A setting of one source: that source with its knobs taken out, and their values."""
    neutral = {name: 0 for name in setting}
    shape = [(f.path, _turned(f, neutral).text) for f in parent.files]
    return f"{digest(json.dumps(shape))[:16]} {json.dumps(dict(sorted(setting.items())))}"


def _settings(attempt: Attempt) -> Iterator[str]:
    knobs = tunables(attempt.files)
    if knobs:
        yield _key({name: values[0] for name, values in knobs.items()}, attempt)


def _recorded(plan: str) -> str | None:
    try:
        data = json.loads(plan)
    except ValueError:
        return None
    return data.get("tuned") if isinstance(data, dict) else None


plugin: type[Programmer] = Tuner
