"""What judging costs: 100 distinct softmax kernels through two workers, and inputs of 16 MB.

python benchmarks/harness_cost.py
"""

import asyncio
import tempfile
import time
from pathlib import Path
from statistics import median

from common import write

from kernelevolve import taskfile
from kernelevolve.config import RunConfig
from kernelevolve.core.candidate import Candidate, SourceFile
from kernelevolve.core.evaluation import Evaluation, Stage
from kernelevolve.core.job import Job
from kernelevolve.harnesses.local import LocalHarness
from kernelevolve.wiring import Parts

TASK = """
import torch

class Model(torch.nn.Module):
    def forward(self, x):
        return torch.softmax(x, dim=-1)

def get_inputs(rows={rows}, columns={columns}):
    return [torch.randn(rows, columns)]

def get_init_inputs():
    return []
"""
MODEL = """
import torch
from kernelevolve.runtime import cpp
kernel = cpp.load("kernel.cpp", flags=["-O3", "-march=native", "-ffast-math", "-DVARIANT={n}"])

class ModelNew(torch.nn.Module):
    def forward(self, x):
        x = x.contiguous()
        out = torch.empty_like(x)
        kernel.softmax(x, out, x.shape[0], x.shape[1])
        return out
"""
KERNEL = """
#include <cfloat>
#include <cmath>
#include <cstdint>
extern "C" void softmax(const float *x, float *out, int64_t rows, int64_t columns) {
    for (int64_t r = 0; r < rows; ++r, x += columns, out += columns) {
        float top = -FLT_MAX, sum = 0;
        for (int64_t c = 0; c < columns; ++c) top = x[c] > top ? x[c] : top;
        for (int64_t c = 0; c < columns; ++c) sum += out[c] = expf(x[c] - top);
        for (int64_t c = 0; c < columns; ++c) out[c] *= 1 / sum;
    }
}
"""


def candidate(n: int) -> Candidate:
    files = (
        SourceFile(path="model.py", text=MODEL.format(n=n)),
        SourceFile(path="kernel.cpp", text=KERNEL),
    )
    return Candidate(language="cpp", files=files)


BESIDE = ("build", "windows", "wait", "lease")
"""Stages that are not judging: compiling, timing, and queues behind other candidates."""
BATCHES = ((512, 1024, 100, 2), (512, 1024, 16, 1), (1950, 2048, 16, 1))
"""Rows, columns, candidates, workers. Where two candidates are at work, one is compiled while the
other is judged; what judging itself costs is seen with one."""


async def judge(
    rows: int, columns: int, count: int, workers: int, folder: Path
) -> dict[str, object]:
    """Admit the task and judge `count` kernels, as many at a time as there are workers."""
    config = RunConfig(workers=workers)
    target = Parts.of(config).target
    task = taskfile.parse("softmax", TASK.format(rows=rows, columns=columns))
    harness = LocalHarness(
        spec=target, language="cpp", workers=workers, folder=folder, blobs=dict().__getitem__,
        limits=config.limits,
    )  # fmt: skip
    lanes = asyncio.Semaphore(harness.slots)

    async def one(n: int) -> Evaluation:
        job = Job(
            task=task, candidate=candidate(n), target=target, stage=Stage.BENCHMARK, seed=f"{n}"
        )
        async with lanes:
            return await harness.evaluate(job)

    began = time.monotonic()
    try:
        admission = await harness.admit(task, target, None)
        admitted = time.monotonic()
        found = await asyncio.gather(*(one(n) for n in range(count)))
        ended = time.monotonic()
    finally:
        await harness.close()
    stages = {name for e in found for name in e.stages_ms}
    return {
        "inputs_bytes": rows * columns * 4,
        "candidates": count,
        "workers": workers,
        "ok": sum(e.ok for e in found),
        "not_ok": [f"{e.status}: {e.message}" for e in found if not e.ok],
        "baselines_us": admission.baselines_us,
        "seconds": ended - began,
        "admission_seconds": admitted - began,
        "judging_ms": [
            sum(ms for stage, ms in e.stages_ms.items() if stage not in BESIDE) for e in found
        ],
        "scores": [e.score for e in found],
        "stages_ms": {s: [e.stages_ms.get(s, 0.0) for e in found] for s in sorted(stages)},
        "median_ms": {s: median(e.stages_ms.get(s, 0.0) for e in found) for s in sorted(stages)},
    }


def main() -> None:
    rows = []
    for batch in BATCHES:
        with tempfile.TemporaryDirectory() as folder:
            found = asyncio.run(judge(*batch, Path(folder)))
        rows.append(found)
        print(batch, f"{found['seconds']:.1f} s", f"{found['ok']} ok", found["median_ms"])
        print("judging", median(found["judging_ms"]), "ms")
        print(*found["not_ok"], sep="\n")
    write("harness_cost", {"batches": rows})


if __name__ == "__main__":
    main()
