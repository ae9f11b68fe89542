"""What every benchmark shares: the machine in words, and how results are written."""

import json
import os
import platform
import queue
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kernelevolve.targets.cpu import Cpu

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def write(name: str, payload: dict[str, object]) -> Path:
    """Keep a result with the machine, the command and the date that it needs to be believed."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"conditions": conditions(), **payload}, indent=1) + "\n")
    return path


def conditions() -> dict[str, object]:
    """Machine, versions, command, load and date."""
    import torch

    spec = Cpu().discover()[0]
    gxx = subprocess.run(["g++", "--version"], capture_output=True, text=True, check=True).stdout
    return {
        "machine": f"{spec.name}, {len(spec.cores)} cores, {spec.memory >> 30} GiB, "
        f"{spec.last_level_cache >> 20} MiB last-level cache",
        "system": platform.platform(terse=True),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "g++": gxx.splitlines()[0],
        },
        "command": " ".join(["python", *sys.argv]),
        "load": os.getloadavg()[0],
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


CORES = 2
"""Of one lane: the judge keeps off the one that is timed."""


def in_lanes(parts: Sequence[Sequence[str]], lanes: int) -> Iterator[dict[str, Any]]:
    """What this script prints when it is called with each of `parts`, as they end.

    Each part runs in a process of its own, on two processors and with caches that no other lane
    uses; `lanes` of them at once.
    """
    cores = sorted(os.sched_getaffinity(0))
    free: queue.SimpleQueue[int] = queue.SimpleQueue()
    for lane in range(lanes):
        free.put(lane)

    def run(part: Sequence[str], caches: str) -> dict[str, Any]:
        lane = free.get()
        mine = cores[lane * CORES : (lane + 1) * CORES]
        apart = ["taskset", "--cpu-list", ",".join(map(str, mine))]
        apart += ["env", f"XDG_CACHE_HOME={caches}/{lane}"]
        command = [*(apart if lanes > 1 else []), sys.executable, sys.argv[0], *part]
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        finally:
            free.put(lane)
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found

    with tempfile.TemporaryDirectory() as caches, ThreadPoolExecutor(lanes) as pool:
        for future in as_completed([pool.submit(run, part, caches) for part in parts]):
            yield future.result()
