"""Runs what the built-in programmer writes for each example under g++'s sanitizers.

`PYTHONPATH=src python tools/sanitize_builtin.py [examples/softmax.py ...]`, a minute or more each.
"""

import argparse
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from random import Random

from kernelevolve.evaluation import sandbox, sanitize
from kernelevolve.languages.cpp import loads_of
from kernelevolve.programmers.builtin.capture import answer
from kernelevolve.programmers.builtin.moves import initial_plans
from kernelevolve.programmers.builtin.programmer import draw
from kernelevolve.programmers.builtin.render import model_of, render
from kernelevolve.runtime import cpp

ROOT = Path(__file__).resolve().parent.parent
RUN = """
import sys
import torch
sys.path.insert(0, sys.argv[1])
import task, model
torch.manual_seed(0)
reference = task.Model(*task.get_init_inputs())
candidate = model.ModelNew(*task.get_init_inputs())
candidate.load_state_dict(reference.state_dict(), strict=True)
getattr(candidate, "prepare", int)()
with torch.no_grad():
    candidate(*(x.clone() if isinstance(x, torch.Tensor) else x for x in task.get_inputs()))
"""


def main() -> int:
    """Exit code 1 where a sanitizer objects."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("examples", nargs="*", type=Path)
    parser.add_argument(
        "--variants", type=int, default=1, help="how many starts, and random schedules besides"
    )
    options = parser.parse_args()
    failed = 0
    for example in options.examples or sorted((ROOT / "examples").glob("*.py")):
        for name, files in variants(example, options.variants):
            said = sanitized(example, files)
            failed += bool(said)
            print(f"{example.stem} {name}: {said or 'nothing found'}", flush=True)
    return 1 if failed else 0


def variants(example: Path, count: int) -> list[tuple[str, dict[str, str]]]:
    """The programmer's first kernel and some of its others."""
    text = example.read_text()
    request = {"source": text, "workloads": [{"sizes": {}}], "mode": None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = model_of(text, answer(request))
    plans = {f"start {number}": plan for number, plan in enumerate(initial_plans(model)[:count])}
    rng = Random(0)
    for number in range(count):
        plans[f"variant {number}"] = draw(model, (), rng).plan
    return [(name, dict(render(model, plan).files)) for name, plan in plans.items()]


def sanitized(example: Path, files: dict[str, str]) -> str:
    """What the sanitizers say; nothing where all is well."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name, text in (*files.items(), ("task.py", example.read_text())):
            (folder / name).write_text(text)
        for load in loads_of(files["model.py"]):
            built = cpp.library_path(folder, load.source, load.flags)
            built.parent.mkdir(exist_ok=True)
            command = cpp.command(load.source, [*load.flags], built)
            subprocess.run(
                [*command, *sanitize.FLAGS, "-w"], cwd=folder, check=True, capture_output=True
            )
        environment = sandbox.environment(sanitize.environment())
        command = [sys.executable, "-c", RUN, str(folder)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if not done.returncode:
            return ""
        return sanitize.summary(done.stderr) or done.stderr[-500:]


if __name__ == "__main__":
    sys.exit(main())
