"""Peaks of one GPU, as JSON: `python gpu_peaks.py INDEX CACHE_BYTES`.

Bandwidth is of a copy, bytes read and written, for working sets from a fraction of the last cache
to many times of it; rates are of square products by the vendor's library, random contents.
"""

import json
import sys
from collections.abc import Callable

import torch

SIDE = 8192
REPEATS = 5


def seconds(work: Callable[[], object], calls: int) -> float:
    """The least that one of `calls` took, by events round all of them."""
    work()
    best = float("inf")
    for _ in range(REPEATS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        begin.record()
        for _ in range(calls):
            work()
        end.record()
        torch.cuda.synchronize()
        best = min(best, begin.elapsed_time(end) / calls * 1e-3)
    return best


def bandwidth(nbytes: int) -> float:
    """Of a copy whose source and destination are `nbytes` together."""
    source = torch.randint(0, 255, (nbytes // 2,), dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    calls = max(5, min(200, int(5e9 / nbytes)))
    graph = torch.cuda.CUDAGraph()
    target.copy_(source)
    with torch.cuda.graph(graph):
        for _ in range(calls):
            target.copy_(source)
    return nbytes / seconds(graph.replay, 1) * calls


def rate(dtype: torch.dtype) -> float:
    """Operations a second of a product."""
    side = SIDE // 4 if dtype is torch.float64 else SIDE
    a, b = (torch.randn(side, side, device="cuda").to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    return 2 * side**3 / seconds(lambda: torch.mm(a, b, out=out), 5)


def call_overhead() -> float:
    """Seconds that a call takes whose kernel does nothing to speak of, one after the other."""
    small = torch.zeros(1, device="cuda")
    return seconds(small.zero_, 2000)


torch.cuda.set_device(int(sys.argv[1]))
cache = int(sys.argv[2])
sizes = [cache // 16, cache // 4, cache // 2, 2 * cache, 8 * cache, 40 * cache]
types = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
rates = {str(dtype).removeprefix("torch."): rate(dtype) for dtype in types}
found = {"bandwidth": [[s, bandwidth(s)] for s in sizes], "flops": rates}
print(json.dumps(found | {"call_overhead_us": call_overhead() * 1e6}))
