"""Data races in native code with threads: its calls are repeated under ThreadSanitizer.

A Python process cannot have that sanitizer loaded into it. So the runner writes down the calls of
native functions with their memory, and a small program makes them again: `replay_calls.cpp`, built
with the same checks in the build sandbox, started by the runner within its walls.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from kernelevolve.core.candidate import Candidate
from kernelevolve.core.job import Limits
from kernelevolve.core.protocols import Run
from kernelevolve.evaluation import replies
from kernelevolve.evaluation.processes import Runner

WATCHED = ".watched"
"""Behind the name of a library: the same with checks for races."""
DRIVER = Path(__file__).with_name("replay_calls.cpp")
FLAGS = ("-O1", "-g", "-fno-lto", "-fno-omit-frame-pointer", "-fsanitize=thread")
THREADS = re.compile(r"\b(j?thread|async|future|pthread_create|thrd_create|clone3?)\b")
UNSEEN = {
    "-fopenmp": "OpenMP's own library hides how its threads wait for each other",
    "atomic_thread_fence": "ThreadSanitizer does not know fences",
}
WARNING = "WARNING: ThreadSanitizer: data race"
FRAME = re.compile(r"^ +#\d+ (?P<name>.+?) (?P<file>\S+?):(?P<line>\d+)(:\d+)? \(", re.MULTILINE)
ACCESS = re.compile(r"^  ((?:previous )?(?:atomic )?(?:read|write)) of size", re.M | re.I)


def build(
    candidate: Candidate, commands: Sequence[Sequence[str]], folder: Path, run: Run
) -> tuple[str, str]:
    """The program that repeats calls, and a remark; both empty where there are no threads.

    Args:
        candidate: its sources lie in `folder`.
        commands: how its libraries are compiled there.
        folder: where to compile.
        run: in the build sandbox.
    """
    texts = [f.text for f in candidate.files if not f.path.endswith(".py")]
    openmp = any("-fopenmp" in c for c in commands)
    if not openmp and not any(THREADS.search(text) for text in texts):
        return "", ""
    for sign, reason in UNSEEN.items():
        if any(sign in part for part in (*texts, *(p for c in commands for p in c))):
            return "", f"data races were not looked for: {reason}"
    program = folder / ".build" / DRIVER.stem
    source = program.with_suffix(".cpp")
    source.write_text(DRIVER.read_text())
    wanted = [_watched(command) for command in commands]
    wanted.append(["g++", str(source), "-o", str(program), *FLAGS, "-ldl"])
    for command in wanted:
        done = run(command, folder, Limits())
        if done.code:
            said = next((x for x in done.output.splitlines() if "error" in x), f"code {done.code}")
            return "", f"data races were not looked for: {said[:300]}"
    return str(program), ""


def _watched(command: Sequence[str]) -> list[str]:
    """The same, into another file."""
    place = command.index("-o") + 1
    return [*command[:place], command[place] + WATCHED, *command[place + 1 :], *FLAGS]


def examine(
    runner: Runner, workload: str, sources: Sequence[str], program: str, seconds: float
) -> tuple[str, str]:
    """Repeat the calls since the runner records; a race in one line, and a remark.

    Raises:
        Malformed: the answer is none.
    """
    reply = runner.ask("repeat", seconds, workload=workload, program=program, patience=seconds / 2)
    heard = replies.texts({"heard": reply}, "heard")
    said, missed = heard.get("said", ""), heard.get("missed", "")
    remark = f"{workload}: not all looked at for data races: {missed}" if missed else ""
    return summary(said, sources), remark[:300]


def summary(log: str, sources: Sequence[str]) -> str:
    """A report in one line; empty where none of its places is in the candidate's sources."""
    _, _, report = log.partition(WARNING)
    parts = [part for part in report.split("\n\n")[:2] if ACCESS.search(part)]
    places = [
        f"{ACCESS.findall(part)[0].lower()} at {place}"
        for part in parts
        if (place := _place(part, sources))
    ]
    if not places:
        return ""
    return f"ThreadSanitizer: data race, {', '.join(places)}; guard what threads share"


def _place(part: str, sources: Sequence[str]) -> str:
    for frame in FRAME.finditer(part):
        name = frame["file"].rpartition("/")[2]
        if name in sources:
            return f"{name}:{frame['line']} in {frame['name']}"
    return ""
