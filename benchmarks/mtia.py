"""Searches on a simulated MTIA chip: against operators, and against random schedules.

python benchmarks/mtia.py [NAME ...] [--target mtia:2i] [--nodes 30] [--lanes 1]

Every figure is simulated. A search counts by what it confirmed; random schedules, as many as the
search has nodes and judged in the same way, by the best of theirs that was confirmed.
"""

import argparse
import json
import math
import tempfile
import time

from common import RESULTS, ROOT, conditions, in_lanes, write

import kernelevolve

TASKS = {
    "rmsnorm": "examples/rmsnorm.py",
    "reduction_chain": "examples/reduction_chain.py",
    "rotary_embedding": "examples/rotary_embedding.py",
    "softmax": "examples/softmax.py",
    "gelu_layernorm_residual": "examples/gelu_layernorm_residual.py",
    "rmsnorm_half": "benchmarks/half/rmsnorm.py",
    "softmax_half": "benchmarks/half/softmax.py",
    "gelu_layernorm_residual_half": "benchmarks/half/gelu_layernorm_residual.py",
}


def search(name: str, target: str, nodes: int, store: str, *, guided: bool) -> dict[str, object]:
    """One search, to its confirmed kernel."""
    began = time.monotonic()
    result = kernelevolve.optimize(
        ROOT / TASKS[name],
        target=target,
        nodes=nodes,
        workers=2,
        seed=1,
        store=store,
        programmer_options={"guided": guided},
    )
    found: dict[str, object] = {
        "seconds": round(time.monotonic() - began),
        "nodes": result.summary["nodes"],
        "score": None,
    }
    if result.best is not None:
        evaluation = result.best.evaluation
        assert evaluation.fidelity == "simulated"
        found["score"] = evaluation.score
        found["workloads"] = [
            {
                "workload": t.workload,
                "held_out": t.held_out,
                "simulated_us": t.median_us,
                "operators_simulated_us": min(t.baselines_us["operators"]),
            }
            for t in evaluation.timings
        ]
        found["what"] = result.summary["best"]["summary"]
    return found


def measure(name: str, target: str, nodes: int) -> dict[str, object]:
    """Both kinds of search on one task."""
    row: dict[str, object] = {"task": name, "file": TASKS[name]}
    for kind in ("guided", "random"):
        with tempfile.TemporaryDirectory() as store:
            row[kind] = search(name, target, nodes, store, guided=kind == "guided")
    return row


def geometric(values: list[float]) -> float | None:
    """Their mean as factors."""
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=[*TASKS])
    parser.add_argument("--target", default="mtia:2i")
    parser.add_argument("--nodes", type=int, default=30)
    parser.add_argument("--lanes", type=int, default=1, help="tasks at once, two cores each")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.alone:
        print(json.dumps(measure(asked.names[0], asked.target, asked.nodes)))
        return
    path = RESULTS / "mtia.json"
    kept = {}
    if path.exists() and set(asked.names) != set(TASKS):
        kept = {row["task"]: row for row in json.loads(path.read_text())["tasks"]}
    common = ["--alone", "--target", asked.target, "--nodes", str(asked.nodes)]
    for row in in_lanes([[*common, name] for name in asked.names], asked.lanes):
        kept[row["task"]] = row | {"conditions": conditions()}
        rows = sorted(kept.values(), key=lambda r: [*TASKS].index(r["task"]))
        print(row["task"], row["guided"]["score"], row["random"]["score"], flush=True)
        told = {"fidelity": "simulated", "target": asked.target, "nodes": asked.nodes}
        write("mtia", told | _over(rows))


def _over(rows: list[dict[str, dict[str, float]]]) -> dict[str, object]:
    scores = [r["guided"]["score"] for r in rows if r["guided"]["score"]]
    both = [r for r in rows if r["guided"]["score"] and r["random"]["score"]]
    return {
        "simulated_gain_over_operators": geometric(scores),
        "simulated_gain_over_random": geometric(
            [r["guided"]["score"] / r["random"]["score"] for r in both]
        ),
        "tasks": rows,
    }


if __name__ == "__main__":
    main()
