"""Optimises pinned examples on one thread and keeps what confirm measured, raw samples included.

python benchmarks/examples.py [NAME ...] [--nodes 60] [--lanes 1]
"""

import argparse
import json
import tempfile
import time

from common import RESULTS, ROOT, conditions, in_lanes, write

import kernelevolve

PLAIN = (
    "softmax",
    "gelu_layernorm_residual",
    "rmsnorm",
    "cross_entropy",
    "groupnorm_swish",
    "matmul_bias_gelu",
    "fused_mlp",
    "attention",
    "swiglu",
)
ALGEBRAIC = ("fm_interaction",)
"""The gain is mostly algebra; timed against the same rewrite in plain PyTorch too."""


def measure(name: str, nodes: int, store: str) -> dict[str, object]:
    """One example, from its file to the confirmed kernel."""
    rewrite = ROOT / "benchmarks" / "rewrites" / f"{name}.py"
    began = time.monotonic()
    result = kernelevolve.optimize(
        ROOT / "examples" / f"{name}.py",
        nodes=nodes,
        threads=1,
        workers=2,
        seed=1,
        store=store,
        baseline=str(rewrite) if rewrite.exists() else None,
    )
    row: dict[str, object] = {
        "example": name,
        "algebraic": name in ALGEBRAIC,
        "nodes": result.summary["nodes"],
        "seconds": time.monotonic() - began,
        "usage": result.summary["usage"],
        "summary": result.summary["best"],
    }
    if result.best is not None:
        row["confirmation"] = result.best.evaluation.model_dump(mode="json")
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=[*PLAIN, *ALGEBRAIC])
    parser.add_argument("--nodes", type=int, default=60)
    parser.add_argument("--lanes", type=int, default=1, help="examples at once, two cores each")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.alone:
        with tempfile.TemporaryDirectory() as store:
            print(json.dumps(measure(asked.names[0], asked.nodes, store)))
        return
    order = [*PLAIN, *ALGEBRAIC]
    kept = {}
    path = RESULTS / "examples.json"
    if path.exists() and set(asked.names) != set(order):
        before = json.loads(path.read_text())
        own = {"conditions": before["conditions"]}
        kept = {row["example"]: own | row for row in before["examples"]}
    parts = [["--alone", name, "--nodes", str(asked.nodes)] for name in asked.names]
    for row in in_lanes(parts, asked.lanes):
        kept[row["example"]] = row | {"conditions": conditions()}
        best = row["summary"]
        told = f"{best['speedup']:.2f}x {best['speedup_over']}" if best else "no kernel"
        print(f"{row['example']:28} {told}  ({row['seconds']:.0f} s)", flush=True)
        rows = sorted(kept.values(), key=lambda r: order.index(r["example"]))
        write("examples", {"nodes": asked.nodes, "examples": rows})


if __name__ == "__main__":
    main()
