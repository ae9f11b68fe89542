"""What every benchmark shares: the machine in words, and how results are written."""

import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

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
