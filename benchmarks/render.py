"""Makes every table of measured figures in the docs from `benchmarks/results/*.json`.

python benchmarks/render.py          rewrite the tables between their markers
python benchmarks/render.py --check  fail where a document differs from the results
"""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
MARKED = re.compile(r"(<!-- table (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def conditions(result: dict[str, Any]) -> str:
    found = result["conditions"]
    versions = ", ".join(f"{name} {text}" for name, text in found["versions"].items())
    return f"{found['machine']}; {versions}; `{found['command']}`; {found['date']}.\n"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _example(row: dict[str, Any]) -> list[str]:
    best = row["summary"]
    if best is None:
        return [row["example"], "no correct kernel", "", "", "", ""]
    over = best["speedup_over"]
    low, high = best["interval"]
    return [
        f"`{row['example']}`" + (" (library calls)" if best["fallback"] else ""),
        f"{best['baseline_us']:.0f}",
        f"{best['time_us']:.0f}",
        f"**{best['speedup']:.2f}** [{low:.2f}, {high:.2f}]",
        f"{over['eager']:.2f}",
        f"{over['compile']:.2f}" if over.get("compile") else "–",
    ]


def examples(result: dict[str, Any]) -> str:
    head = [
        "example",
        "best baseline, µs",
        "kernel, µs",
        "over the best",
        "over eager",
        "over compile",
    ]
    plain = [r for r in result["examples"] if not r["algebraic"]]
    algebraic = [r for r in result["examples"] if r["algebraic"]]
    scored = [r["summary"] for r in plain if r["summary"]]
    eager = geometric_mean(b["speedup_over"]["eager"] for b in scored)
    all_scored = [r["summary"] for r in result["examples"] if r["summary"]]
    over_all = geometric_mean(b["speedup_over"]["eager"] for b in all_scored)
    measured = dict.fromkeys(conditions(result | row) for row in result["examples"])
    return (
        table(head, [_example(r) for r in plain])
        + f"\nMedian over the best baseline {median(b['speedup'] for b in scored):.2f}; "
        f"geometric mean over eager {eager:.2f}, {over_all:.2f} with the example below, "
        f"over the best {geometric_mean(b['speedup'] for b in scored):.2f}.\n\n"
        "Where algebra gives the gain, timed against the same rewrite in plain PyTorch:\n\n"
        + table([*head, "over the rewrite"], [_algebraic(r) for r in algebraic])
        + f"\n{result['nodes']} nodes each, confirmed in fresh processes; geometric means over the "
        "workloads of a file; 95 % intervals. " + "\n".join(measured)
    )


def _algebraic(row: dict[str, Any]) -> list[str]:
    best = row["summary"] or {}
    rewrite = best.get("speedup_over", {}).get("user")
    return [*_example(row), f"{rewrite:.2f}" if rewrite else "–"]


def guided(result: dict[str, Any]) -> str:
    runs = result["runs"]
    seeds = sorted({r["seed"] for r in runs})
    rows = []
    for task in dict.fromkeys(r["task"] for r in runs):
        for name in ("guided", "random"):
            reached = {r["seed"]: r["nodes"][name] for r in runs if r["task"] == task}
            shown = ["" if s not in reached else str(reached[s] or "–") for s in seeds]
            middle = median(n or result["budget"] for n in reached.values())
            final = [max(r["curves"][name]) / r["best"] for r in runs if r["task"] == task]
            rows.append([f"`{task}`", name, *shown, f"{middle:g}", f"{median(final):.2f}"])
    head = ["task", "moves", *(f"seed {s}" for s in seeds), "median", "best of both = 1"]
    within = f"{100 * (1 - result['within']):.0f} %"
    return (
        table(head, rows)
        + f"\nNodes until a score within {within} of the best that either search found; – is "
        f"never, counted as the budget of {result['budget']}. The last column is the median of "
        "what each search reached in the end.\n\n"
        + table(["task", "moves", *map(str, MARKS)], _curves(runs))
        + "\nThe curves: what would be announced after so many nodes, as a share of that best; "
        "medians over the seeds. " + conditions(result)
    )


def _curves(runs: list[dict[str, Any]]) -> list[list[str]]:
    """Best so far, as a share of the best of all, after some numbers of nodes."""
    rows = []
    for task in dict.fromkeys(r["task"] for r in runs):
        for name in ("guided", "random"):
            curves = [[v / r["best"] for v in r["curves"][name]] for r in runs if r["task"] == task]
            shares = [median(c[min(n, len(c)) - 1] for c in curves) for n in MARKS]
            rows.append([f"`{task}`", name, *(f"{share:.2f}" for share in shares)])
    return rows


def harness_cost(result: dict[str, Any]) -> str:
    rows = []
    for batch in result["batches"]:
        stages = ", ".join(f"{n} {ms:.0f}" for n, ms in batch["median_ms"].items() if ms >= 0.5)
        size = f"{batch['inputs_bytes'] / 1e6:.0f} MB"
        count, workers = str(batch["candidates"]), str(batch["workers"])
        judging = f"{median(batch['judging_ms']):.0f}"
        rows.append([size, count, workers, f"{batch['seconds']:.1f}", judging, stages])
    head = ["inputs", "candidates", "workers", "seconds in all, baselines included"]
    head += ["judging, median ms", "median ms by stage"]
    return table(head, rows) + "\n" + conditions(result)


def search_overhead(result: dict[str, Any]) -> str:
    rows = [[f"`{n}`", f"{median(s):.2f}"] for n, s in result["samples_ms"].items()]
    return table(["operation at 1,000 nodes", "median ms"], rows) + "\n" + conditions(result)


def dlrm_h100(result: dict[str, Any]) -> str:
    rows = []
    for case in result["cases"]:
        for number, sizes in enumerate(case["workloads"]):
            name, best = min(sizes["baselines_us"].items(), key=lambda item: item[1])
            low, high = case["interval"]
            whole = f"{case['speedup']:.2f} [{low:.2f}, {high:.2f}]"
            attempts = str(case["attempts"])
            first = [f"`{case['case']}`", case["language"], attempts, whole]
            final = "yes" if case["confirmed"] else "no"
            size = sizes["name"] + (", held out" if sizes["held_out"] else "")
            ratio = f"{best / sizes['us']:.2f}"
            row = [f"{best:.1f} ({name})", f"{sizes['us']:.1f}", ratio]
            rows.append([*([""] * 5 if number else [*first, final]), size, *row])
    head = ["case", "language", "attempts", "over the best, shown sizes", "confirmed", "size"]
    head += ["best baseline, µs", "kernel, µs", "ratio"]
    return table(head, rows) + "\n" + conditions(result)


def mtia(result: dict[str, Any]) -> str:
    rows = []
    for task in result["tasks"]:
        best, random = task["guided"], task["random"]["score"]
        shown = [w for w in best.get("workloads", []) if not w["held_out"]]
        us = [f"{w['operators_simulated_us']:.1f} → {w['simulated_us']:.1f}" for w in shown]
        over = [f"{best['score']:.2f}" if best["score"] else "none"]
        over.append(f"{best['score'] / random:.2f}" if best["score"] and random else "")
        over[0] += " (left to PyTorch)" if "left to PyTorch" in best.get("what", "") else ""
        rows.append([f"`{task['task']}`", ", ".join(us), *over])
    head = ["task", "operators → kernel, simulated µs", "simulated gain over operators"]
    head.append("over the best of as many random schedules, simulated")
    operators = result["simulated_gain_over_operators"]
    random = result["simulated_gain_over_random"]
    return (
        table(head, rows) + f"\nGeometric means {operators:.2f} and {random:.2f}. All of it is "
        f"simulated, on `{result['target']}`; no chip has measured it. {result['nodes']} nodes "
        "for each search.\n\n" + conditions(result)
    )


MARKS = (1, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20)
TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "dlrm_h100": dlrm_h100,
    "examples": examples,
    "guided": guided,
    "harness_cost": harness_cost,
    "mtia": mtia,
    "search_overhead": search_overhead,
}


def rendered(text: str) -> str:
    """A document with its tables made anew."""

    def fresh(found: re.Match[str]) -> str:
        path = RESULTS / f"{found[2]}.json"
        if not path.exists():
            return f"{found[1]}Not measured yet.\n{found[3]}"
        return found[1] + TABLES[found[2]](json.loads(path.read_text())) + found[3]

    return MARKED.sub(fresh, text)


def main() -> int:
    documents = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    stale = [p for p in documents if p.exists() and rendered(p.read_text()) != p.read_text()]
    if "--check" in sys.argv:
        for path in stale:
            print(f"{path.relative_to(ROOT)}: differs from benchmarks/results; run {__file__}")
        return 1 if stale else 0
    for path in stale:
        path.write_text(rendered(path.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
