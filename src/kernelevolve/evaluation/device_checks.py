"""compute-sanitizer's reports of kernels on a GPU. In the judge.

A warm parent is started under each tool, and a runner forked from it makes a few calls, with every
tensor in an allocation of its own. Reports are printed by the tool itself, outside of the runner.
"""

import re
import shutil
from collections.abc import Sequence

from kernelevolve.core.candidate import Candidate

TOOLS = ("memcheck", "racecheck", "initcheck")
PLACES = ("compute-sanitizer", "/usr/local/cuda/bin/compute-sanitizer")
INSTALL = "not checked by compute-sanitizer: it comes with the CUDA toolkit"
ENVIRONMENT = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
REPORT = re.compile(
    r"^=========\s+(?:Error: )?(?P<what>(?:Invalid|Misaligned|Uninitialized|Race|Out-of-range"
    r"|Barrier|Address)[^\n]*)\n(?P<rest>(?:=========[^\n]*\n){0,4})",
    re.MULTILINE,
)
PLACE = re.compile(r"(?P<file>[\w.-]+\.(?:cu|cuh|h|py)):(?P<line>\d+)")


def program() -> str | None:
    """The tool, where it is installed."""
    return next((found for place in PLACES if (found := shutil.which(place))), None)


def prefix(tool: str) -> list[str]:
    """What a warm parent's command begins with, to be looked at by a tool."""
    options = ["--target-processes", "all", "--show-backtrace", "no", "--print-limit", "20"]
    return [program() or PLACES[0], "--tool", tool, *options]


def summary(tool: str, log: str, candidate: Candidate) -> str:
    """The first report about the candidate's own source, in one line; empty where there is none."""
    own = {file.path.rpartition("/")[2] for file in candidate.files}
    for report in REPORT.finditer(log):
        place = _own_place(f"{report['what']}\n{report['rest']}", own)
        if place:
            return f"compute-sanitizer {tool}: {report['what'].strip()} at {place}"
    return ""


def _own_place(text: str, own: Sequence[str] | set[str]) -> str:
    found = (f"{p['file']}:{p['line']}" for p in PLACE.finditer(text) if p["file"] in own)
    return next(found, "")
