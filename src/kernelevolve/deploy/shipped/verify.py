"""Checks the kernel against its reference and measures both, on the machine where this runs.

    python verify.py [--quick] [--json] [--seconds S] [--threads N] [--seed N]

Exits with 1 when a result is wrong, 3 when everything is right but the kernel cannot run here.
"""

import argparse
import copy
import importlib
import json
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent))
op: Any = importlib.import_module("op")

files = op.support.files
MANIFEST: dict[str, Any] = op.support.MANIFEST
SLOTS = 4
CHECKED_SEEDS = 3
Call = Callable[[Sequence[Any]], Any]


class Pair:
    """Reference and optimised module with the same secret weights, in the verified mode."""

    def __init__(self, workload: dict[str, Any], seed: int) -> None:
        torch.manual_seed(seed)
        args, kwargs = files.workload_arguments(workload)
        self.reference: nn.Module = op.support.Model(*args, **kwargs)
        if MANIFEST["mode"] is not None:
            self.reference.train(MANIFEST["mode"] == "train")
        with torch.no_grad():
            for parameter in self.reference.parameters():
                if parameter.is_floating_point():
                    scale = parameter.abs().mean().clamp(min=1e-3)
                    parameter.add_(0.1 * scale * torch.randn_like(parameter))
            for name, (low, high) in MANIFEST["randomise"].items():
                self.reference.get_buffer(name).uniform_(low, high)
        self.optimized = op.from_reference(self.reference, *args, **kwargs)


def flat(output: Any) -> list[Tensor]:
    """Every tensor of an output, in order."""
    if isinstance(output, Tensor):
        return [output]
    parts = output.values() if isinstance(output, dict) else output
    return [tensor for part in parts for tensor in flat(part)]


def check(workload: dict[str, Any], seed: int) -> dict[str, Any]:
    """Largest error of the optimised module relative to its budget; at most 1 is right."""
    pair = Pair(workload, seed)
    inputs = files.workload_inputs(workload)
    kept = copy.deepcopy(inputs)
    expected = flat(pair.reference(*copy.deepcopy(inputs)))
    why_not = pair.optimized.why_not(*inputs)
    found = flat(pair.optimized(*inputs))
    tensors = [(a, b) for a, b in zip(inputs, kept, strict=True) if isinstance(a, Tensor)]
    message = "" if all(_same(a, b) for a, b in tensors) else "it changed its inputs"
    if [(t.shape, t.dtype) for t in found] != [(t.shape, t.dtype) for t in expected]:
        message = message or "other shapes or dtypes than the reference's"
    oracle = _oracle(pair.reference, kept, expected)
    error = max(map(_error, found, expected, oracle), default=0.0) if not message else float("inf")
    if not message and not error <= 1:
        message = f"its error is {error:.3g} times the budget"
    return {"error": error, "message": message, "why_not": why_not}


def _same(a: Tensor, b: Tensor) -> bool:
    return bool(torch.equal(a.nan_to_num(), b.nan_to_num()))


def _oracle(reference: nn.Module, inputs: Sequence[Any], expected: list[Tensor]) -> list[Tensor]:
    """The reference in float64; where it cannot be lifted, its own result."""
    lift = [a.double() if isinstance(a, Tensor) and a.is_floating_point() else a for a in inputs]
    try:
        return flat(copy.deepcopy(reference).double()(*lift))
    except Exception:  # noqa: BLE001  a reference that names its dtypes
        return expected


def _error(found: Tensor, expected: Tensor, oracle: Tensor) -> float:
    """Error over budget: RMS against 4 times, maximum against 8 times the reference's own."""
    if not expected.is_floating_point():
        return 0.0 if torch.equal(found, expected) else float("inf")
    limits = MANIFEST["tolerance"]
    exact = oracle.double()
    known = torch.isfinite(exact)
    ours, theirs = found.double(), expected.double()
    if not torch.equal(ours[~known].nan_to_num(), theirs[~known].nan_to_num()):
        return float("inf")
    zero = torch.zeros_like(exact)
    ours, theirs = (torch.where(known, x - exact, zero).abs() for x in (ours, theirs))
    magnitude = torch.where(known, exact, zero).abs()
    row = magnitude.amax(-1, keepdim=True) if magnitude.dim() else magnitude
    ulp = limits["ulps"] * torch.finfo(expected.dtype).eps * row
    tiny = torch.finfo(expected.dtype).tiny
    most = torch.maximum(limits["maximum"] * theirs.max(), ulp).clamp(min=tiny)
    rms = torch.maximum(limits["rms"] * _rms(theirs), _rms(ulp)).clamp(min=tiny)
    worst = torch.maximum((ours / most).max(), _rms(ours) / rms)
    return float("inf") if torch.isnan(worst) else float(worst)


def _rms(x: Tensor) -> Tensor:
    return x.square().mean().sqrt()


def measure(workload: dict[str, Any], seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Microseconds per call of every side, taken in turns so that drift meets all alike."""
    pair = Pair(workload, seed)
    slots = [files.workload_inputs(workload) for _ in range(SLOTS)]
    sides = _sides(pair, slots[0], options.quick)
    calls = {name: _calls_per_window(call, slots) for name, call in sides.items()}
    samples: dict[str, list[float]] = {name: [] for name in sides}
    order = list(sides)
    shuffle = random.Random(seed)
    deadline = time.perf_counter() + options.seconds
    while time.perf_counter() < deadline or len(samples[order[0]]) < 7:
        shuffle.shuffle(order)
        for name in order:
            samples[name].append(_window(sides[name], slots, calls[name]))
    baselines = [name for name in ("eager", "compile") if name in samples]
    best = min(baselines, key=lambda name: statistics.median(samples[name]))
    low, high = _interval(samples[best], samples["drop-in"], seed)
    return {
        "median_us": {name: statistics.median(values) for name, values in samples.items()},
        "best_baseline": best,
        "speedup": statistics.median(samples[best]) / statistics.median(samples["drop-in"]),
        "interval": [low, high],
        "samples_us": samples,
    }


def _sides(pair: Pair, inputs: Sequence[Any], quick: bool) -> dict[str, Call]:
    sides: dict[str, Call] = {
        "eager": lambda args: pair.reference(*args),
        "drop-in": lambda args: pair.optimized(*args),
    }
    if quick:
        return sides
    compiled = torch.compile(pair.reference)
    try:
        compiled(*inputs)
        sides["compile"] = lambda args: compiled(*args)
    except Exception as error:  # noqa: BLE001  a baseline that this machine lacks
        print(f"torch.compile does not work here: {str(error).splitlines()[0]}", file=sys.stderr)
    return sides


def _calls_per_window(call: Call, slots: Sequence[Any]) -> int:
    """As many calls as last ten milliseconds."""
    _window(call, slots, SLOTS)
    return max(1, min(2000, int(10_000 / max(_window(call, slots, SLOTS), 0.1))))


def _window(call: Call, slots: Sequence[Any], calls: int) -> float:
    started = time.perf_counter()
    for number in range(calls):
        call(slots[number % SLOTS])
    return (time.perf_counter() - started) * 1e6 / calls


def _interval(base: list[float], ours: list[float], seed: int) -> tuple[float, float]:
    """95 % bootstrap interval of the ratio of medians, rounds drawn together."""
    chance = random.Random(seed)
    rounds = list(zip(base, ours, strict=True))
    ratios = []
    for _ in range(500):
        drawn = chance.choices(rounds, k=len(rounds))
        ratios.append(
            statistics.median(b for b, _ in drawn) / statistics.median(o for _, o in drawn)
        )
    ratios.sort()
    return ratios[12], ratios[-13]


def verify(options: argparse.Namespace) -> dict[str, Any]:
    """Check every workload under several seeds, then measure the right ones."""
    results = []
    for workload in MANIFEST["workloads"]:
        checks = [check(workload, options.seed + n) for n in range(CHECKED_SEEDS)]
        worst = max(checks, key=lambda c: (bool(c["message"]), c["error"]))
        row = {"workload": workload["name"], "held_out": workload["held_out"], **worst}
        row["ok"] = not worst["message"]
        results.append(row | (measure(workload, options.seed, options) if row["ok"] else {}))
    return {
        "op": f"kernelevolve::{MANIFEST['op']}",
        "ok": all(row["ok"] for row in results),
        "kernel_runs": all(not row["why_not"] for row in results),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": platform.platform(),
        "workloads": results,
    }


def table(report: dict[str, Any]) -> str:
    """The report for a person."""
    names = ["eager", "drop-in"] if not _compiled(report) else ["eager", "compile", "drop-in"]
    head = ["workload", "verdict", "error/budget", *(f"{n} µs" for n in names), "speed-up", "95 %"]
    rows = [head]
    for row in report["workloads"]:
        verdict = "right" if row["ok"] else f"WRONG: {row['message']}"
        verdict += f" (reference: {row['why_not']})" if row["why_not"] else ""
        cells = [row["workload"], verdict, f"{row['error']:.2g}"]
        if row["ok"]:
            cells += [f"{row['median_us'][n]:.1f}" if n in row["median_us"] else "-" for n in names]
            cells += [f"{row['speedup']:.2f}x", "{:.2f}-{:.2f}".format(*row["interval"])]
        rows.append(cells + [""] * (len(head) - len(cells)))
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = ("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _compiled(report: dict[str, Any]) -> bool:
    return any("compile" in row.get("median_us", {}) for row in report["workloads"])


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="leave out torch.compile")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--seconds", type=float, default=2.0, help="of timing per workload")
    parser.add_argument("--threads", type=int, default=MANIFEST["threads"], help="of torch")
    parser.add_argument("--seed", type=int, default=0, help="of weights and inputs")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with torch.no_grad():
        report = verify(options)
    print(json.dumps(report) if options.json else table(report))
    if not report["ok"]:
        return 1
    return 0 if report["kernel_runs"] else 3


if __name__ == "__main__":
    raise SystemExit(main())
