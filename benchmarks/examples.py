"""Optimises pinned examples on one thread and keeps what confirm measured, raw samples included.

python benchmarks/examples.py [NAME ...] [--nodes 60]
"""

import argparse
import json
import tempfile
import time

from common import RESULTS, ROOT, write

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
    asked = parser.parse_args()
    kept = {}
    path = RESULTS / "examples.json"
    if path.exists() and set(asked.names) != {*PLAIN, *ALGEBRAIC}:
        kept = {row["example"]: row for row in json.loads(path.read_text())["examples"]}
    for name in asked.names:
        with tempfile.TemporaryDirectory() as store:
            kept[name] = measure(name, asked.nodes, store)
        best = kept[name]["summary"]
        told = f"{best['speedup']:.2f}x {best['speedup_over']}" if best else "no kernel"
        print(f"{name:28} {told}  ({kept[name]['seconds']:.0f} s)", flush=True)
        write("examples", {"nodes": asked.nodes, "examples": list(kept.values())})


if __name__ == "__main__":
    main()
