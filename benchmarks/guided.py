"""Does the diagnosis earn its keep? Guided moves against random sampling of schedules.

python benchmarks/guided.py [--nodes 20] [--seeds 5]
"""

import argparse
import tempfile

from common import ROOT, write

import kernelevolve
from kernelevolve import Graph

TASKS = ("gelu_layernorm_residual", "matmul_bias_gelu")
WITHIN = 0.95


def curve(graph: Graph) -> list[float]:
    """Best score so far after each node; 0 until one is OK."""
    best, curve = 0.0, []
    for node in graph:
        if node.evaluation is not None and node.evaluation.score is not None:
            best = max(best, node.evaluation.score)
        curve.append(best)
    return curve


def nodes_to(curve: list[float], score: float) -> int | None:
    """The first node that reached a score."""
    return next((n for n, best in enumerate(curve, 1) if best >= score), None)


def search(task: str, seed: int, nodes: int, guided: bool, store: str) -> list[float]:
    """The curve of one search."""
    result = kernelevolve.optimize(
        ROOT / "examples" / f"{task}.py",
        nodes=nodes,
        seed=seed,
        workers=1,
        confirm=1,
        store=store,
        programmer_options={"guided": guided},
    )
    return curve(result.graph)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=5)
    asked = parser.parse_args()
    rows = []
    for task in TASKS:
        for seed in range(1, asked.seeds + 1):
            with tempfile.TemporaryDirectory() as store:
                curves = {
                    name: search(task, seed, asked.nodes, name == "guided", store)
                    for name in (("guided", "random") if seed % 2 else ("random", "guided"))
                }
            best = max(c[-1] for c in curves.values())
            row = {"task": task, "seed": seed, "best": best, "curves": curves}
            row["nodes"] = {name: nodes_to(c, WITHIN * best) for name, c in curves.items()}
            rows.append(row)
            print(task, seed, f"{best:.2f}", row["nodes"], flush=True)
            write("guided", {"within": WITHIN, "budget": asked.nodes, "runs": rows})


if __name__ == "__main__":
    main()
