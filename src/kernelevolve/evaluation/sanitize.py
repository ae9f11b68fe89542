"""g++'s sanitizers: a candidate's native code built again with checks in it, and run once more.

The main process rebuilds in the build sandbox; the judge runs the result in a process that had
the checks' library from its start, with every input in heap memory of its own size.
"""

import functools
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

from kernelevolve.core.candidate import Candidate
from kernelevolve.core.detector import Detector
from kernelevolve.core.evaluation import Build, Status
from kernelevolve.core.job import Limits
from kernelevolve.core.protocols import Run
from kernelevolve.core.task import Workload
from kernelevolve.evaluation import races
from kernelevolve.evaluation.blocks import Block
from kernelevolve.evaluation.pool import Prepared
from kernelevolve.evaluation.processes import Ended, Failed, Late, Lost, Runner

FLAGS = (
    "-O1",
    "-g",
    "-fno-lto",
    "-fno-omit-frame-pointer",
    "-fsanitize=address,undefined",
    "-fno-sanitize=vptr",
    "-fno-sanitize-recover=all",
    "-U__SANITIZE_ADDRESS__",
)
"""After the candidate's own: the last level of optimisation counts. A kernel is not told."""
OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=0:detect_odr_violation=0:alloc_dealloc_mismatch=0:"
    "allocator_may_return_null=1:quarantine_size_mb=64:malloc_context_size=4:print_legend=0:"
    "exitcode=66",
    "UBSAN_OPTIONS": "print_stacktrace=0:exitcode=66",
}
INSTALL = "apt-get install g++ (it brings libasan; on Fedora: dnf install libasan libubsan)"
SLOTS = 2
LARGEST_BYTES = 64 << 20
"""Of the inputs of one call: larger workloads take minutes with checks in every access."""
SLOWER = 10
REPORT_BYTES = 1 << 18
ADDRESS = re.compile(r"ERROR: AddressSanitizer: (?P<what>[\w-]+)")
ACCESS = re.compile(r"^(?P<access>(READ|WRITE) of size \d+)", re.MULTILINE)
UNDEFINED = re.compile(r"^(?P<where>\S+?:\d+(:\d+)?): runtime error: (?P<what>.*)$", re.MULTILINE)


@functools.cache
def preloaded() -> tuple[str, ...]:
    """Libraries that must be there before any other; empty where the sanitizer is missing."""
    found = tuple(_library(name) for name in ("libasan.so", "libstdc++.so"))
    return found if all(found) else ()


def _library(name: str) -> str:
    if shutil.which("g++") is None:
        return ""
    command = ["g++", f"-print-file-name={name}"]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603
    return said if "/" in said and Path(said).exists() else ""


def environment() -> dict[str, str]:
    """Of the process that runs what was built with checks."""
    return {**OPTIONS, "LD_PRELOAD": " ".join(preloaded())}


def rebuild(candidate: Candidate, build: Build, folder: Path, run: Run) -> Build:
    """The same candidate with checks in its native code, made below `folder`.

    Its `commands` are the program that repeats calls, where there are threads to look at.
    """
    if not build.commands:
        return Build(ok=False)
    if not preloaded():
        return Build(ok=False, message=f"not checked by sanitizers: {INSTALL}")
    shutil.rmtree(folder, ignore_errors=True)
    for file in candidate.files:
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.text)
    commands: list[list[str]] = []
    for command in build.commands:
        moved = [part.replace(build.folder, str(folder)) for part in command]
        Path(moved[moved.index("-o") + 1]).parent.mkdir(exist_ok=True)
        done = run([*moved, *FLAGS], folder, Limits())
        if done.code:
            errors = [x for x in done.output.splitlines() if "error" in x] or [f"code {done.code}"]
            return Build(ok=False, message=f"it does not build with sanitizers: {errors[0][:300]}")
        commands.append(moved)
    program, remark = races.build(candidate, commands, folder, run)
    return Build(
        ok=True,
        folder=str(folder),
        commands=((program,),) if program else (),
        remarks=(remark,) if remark else (),
    )


class Report(Exception):
    """What a sanitizer, or its absence of an answer, says of a candidate."""

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.detector = Detector.SANITIZERS


class Checked(NamedTuple):
    """A runner that sanitizers look at."""

    runner: Runner
    told: Callable[[], str]
    """What a tool outside of the runner reports, once that has ended."""
    tool: str = ""
    """Its name, where what happens in the runner may be its own doing."""


def look_on(
    checked: Checked,
    built: Build,
    candidate: Candidate,
    prepared: Sequence[Prepared],
    start: Callable[[Runner], object],
    load: Callable[[Runner, Prepared], object],
    random: Random,
    seconds: float,
) -> tuple[str, ...]:
    """Call every workload and end the runner; what a tool tells outside of it comes first.

    Raises:
        Report: something was reported.
        Lost: the runner could not start, and it has no tool of its own to say so of.
    """
    try:
        start(checked.runner)
    except Lost as error:
        if checked.tool:
            return (f"not checked by {checked.tool}: {str(error)[:300]}",)
        raise
    own: Report | None = None
    remarks: tuple[str, ...] = ()
    try:
        remarks = examine(checked.runner, built, candidate, prepared, load, random, seconds)
    except Report as report:
        own = report
    checked.runner.close()
    if found := checked.told():
        raise Report(own.status if own else Status.REJECTED, found) from own
    if own and checked.tool:
        return (*remarks, f"{checked.tool} could not look at it: {str(own)[:300]}")
    if own:
        raise own
    return remarks


def examine(
    runner: Runner,
    built: Build,
    candidate: Candidate,
    prepared: Sequence[Prepared],
    load: Callable[[Runner, Prepared], object],
    random: Random,
    seconds: float,
) -> tuple[str, ...]:
    """Call every workload under the sanitizers; remarks about those that were left out.

    Raises:
        Report: a sanitizer stopped it, or it behaves unlike it does without.
    """
    remarks = list(built.remarks)
    runner.log_bytes = REPORT_BYTES
    if built.commands:
        runner.ask("record", seconds)
    for one in prepared:
        name = one.workload.name
        if one.inputs.nbytes > LARGEST_BYTES:
            remarks.append(f"{name}: inputs of {one.inputs.nbytes >> 20} MB, not run by sanitizers")
            continue
        try:
            load(runner, one)
            _call(runner, one, random, seconds * SLOWER)
            for (program,) in built.commands:
                sources = [Path(file.path).name for file in candidate.files]
                race, missed = races.examine(runner, name, sources, program, seconds * SLOWER)
                if race:
                    raise Report(Status.REJECTED, f"workload {name!r}: {race}")
                remarks += [missed] if missed else []
        except Ended as error:
            raise _ended(one.workload, error) from error
        except Failed as error:
            text = f"workload {name!r} raises with sanitizers on: {error}"
            raise Report(Status.CRASHED, text) from error
        except Late as error:
            remarks.append(f"{name}: sanitizers took longer than {error.seconds:g} s")
            return tuple(remarks)
    return tuple(remarks)


def _call(runner: Runner, prepared: Prepared, random: Random, seconds: float) -> None:
    """Some calls, each input in memory of exactly its size."""
    name = prepared.workload.name
    count = min(SLOTS, len(prepared.contents))
    block = Block(prepared.inputs.nbytes * count)
    try:
        chosen = random.sample(range(len(prepared.contents)), count)
        for slot, content in enumerate(chosen):
            block.part(slot, prepared.inputs.nbytes)[:] = prepared.contents[content]
        layout = prepared.inputs.dump()
        given = {"workload": name, "layout": layout, "count": count, "device_bytes": 0}
        runner.ask("attach", seconds, [block.fd], **given)
        runner.ask("own", seconds, workload=name)
        runner.ask("calls", seconds, workload=name, start=0, count=count)
    finally:
        block.close()


def _ended(workload: Workload, error: Ended) -> Report:
    found = summary(error.log)
    if found:
        return Report(Status.REJECTED, f"workload {workload.name!r}: {found}")
    return Report(
        Status.CRASHED,
        f"workload {workload.name!r} ends its process with sanitizers on (code {error.code}): "
        f"{error.why or error.log[-300:]}",
    )


def summary(log: str) -> str:
    """A report in one line: what, where, in which function; empty where there is none."""
    undefined = UNDEFINED.search(log)
    if undefined:
        where = undefined["where"].rpartition("/")[2]
        return f"UndefinedBehaviorSanitizer: {undefined['what']} at {where}"
    address = ADDRESS.search(log)
    if not address:
        return ""
    report = log[address.start() :]
    access = ACCESS.search(report)
    done = f", {access['access']}" if access else ""
    return f"AddressSanitizer: {address['what']}{done}{_place(report)}"


FRAME = re.compile(
    r"^ +#\d+ 0x[0-9a-f]+ in (?P<name>.+?) (?P<file>\S+?):(?P<line>\d+)", re.MULTILINE
)


def _place(report: str) -> str:
    """The first frame that has a line of source: the candidate's own."""
    for frame in FRAME.finditer(report):
        file: Mapping[str, str] = frame.groupdict()
        name = file["file"].rpartition("/")[2]
        return f" at {name}:{file['line']} in {file['name']}"
    return ""
