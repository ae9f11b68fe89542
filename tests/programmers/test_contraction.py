"""Emitted contractions, compiled with g++ and compared with a float64 oracle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kernelevolve.programmers.builtin.emit.contraction_collapse import collapsed
from kernelevolve.programmers.builtin.emit.contraction_schedule import (
    ContractionSchedule,
    default_schedules,
    legal,
    neighbours,
)
from kernelevolve.programmers.builtin.ir import (
    Axis,
    Call,
    Const,
    Contraction,
    Expr,
    Index,
    Ref,
    Size,
    Store,
    Term,
)

from .contraction_kit import bmm, call, compile_source, index, load, source_of, symbol

pytestmark = pytest.mark.needs_gxx

NAMES = ("s0", "s1", "s2", "s3")
SIZES = ((1, 1, 1, 1), (2, 7, 5, 3), (3, 31, 130, 70), (1, 100, 97, 301))
SMALL = ContractionSchedule(rows=4, vectors=2, m_block=12, k_block=64, n_block=96)


def symbols_at(*sizes: tuple[int, ...]) -> tuple[Size, ...]:
    return tuple(symbol(n, *(s[i] for s in sizes)) for i, n in enumerate(NAMES))


def table(*sizes: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    return {n: tuple(s[i] for s in sizes) for i, n in enumerate(NAMES)}


B, M, N, K = symbols_at((512, 24, 64, 24))
SEEN = table((512, 24, 64, 24))


def random(*shape: int, dtype: np.dtype | type = np.float32) -> np.ndarray:
    """Unaligned on purpose, and different at every call."""
    rng = np.random.default_rng(sum(shape) + 7 * len(shape))
    flat = rng.standard_normal(int(np.prod(shape)) + 1).astype(dtype)
    return flat[1:].reshape(shape)


def close(got: np.ndarray, oracle: np.ndarray, reference: np.ndarray) -> None:
    """Within 4 times the reference's RMS error and 8 times its largest, with a floor."""
    floor = 2.0**-22 * max(1e-30, float(np.abs(oracle).max()))
    error, own = np.abs(got - oracle), np.abs(reference - oracle)
    assert error.shape == own.shape
    assert error.max() <= 8 * max(own.max(), floor)
    assert np.sqrt((error**2).mean()) <= 4 * max(np.sqrt((own**2).mean()), floor)


def product(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The float64 oracle and torch's own float32 answer."""
    low = torch.matmul(torch.from_numpy(a.copy()), torch.from_numpy(b.copy())).numpy()
    return a.astype(np.float64) @ b.astype(np.float64), low


SCHEDULES = {
    "blocked": SMALL,
    "default": ContractionSchedule(),
    "in_place": ContractionSchedule(rows=6, vectors=4, pack_a=False, pack_b=False, m_block=0),
    "tall": ContractionSchedule(rows=14, vectors=2, pack_a=False, unroll=4, prefetch=8),
    "narrow": ContractionSchedule(width=8, rows=1, vectors=3, k_block=16, pack_b=False),
    "parallel": replace(SMALL, parallel=True),
    "fixed": ContractionSchedule(rows=6, vectors=4, fixed=True, pack_a=False, pack_b=False),
}


@pytest.mark.parametrize("key", SCHEDULES)
def test_one_source_serves_all_sizes(key: str, tmp_path: Path) -> None:
    schedule = SCHEDULES[key]
    c = bmm((B, M, N, K))
    library = compile_source(source_of([(c, schedule)], SEEN, schedule.width), tmp_path, ["-O3"])
    for b, m, n, k in (*SIZES, (5, 24, 64, 24), (512, 24, 64, 24)):
        a, w, out = random(b, m, k), random(b, k, n), np.full((b, m, n), np.nan, np.float32)
        call(library, c, {"a": a, "b": w, "out": out}, (b, m, n, k))
        close(out, *product(a, w))


@pytest.mark.parametrize("schedule", [SMALL, ContractionSchedule(kernel="dot", rows=4)])
def test_transposed_operands(schedule: ContractionSchedule, tmp_path: Path) -> None:
    left = load("a", i0=M * K, k=M, m=1)
    right = load("b", i0=N * K, n=K, k=1)
    cases = [
        bmm((B, M, N, K), b=right, name="nt"),
        bmm((B, M, N, K), a=left, name="tn"),
        bmm((B, M, N, K), a=left, b=right, name="tt"),
    ]
    in_place = replace(schedule, pack_a=False)
    pairs = [(c, s) for c, s in zip(cases, (schedule, in_place, in_place), strict=True)]
    library = compile_source(source_of(pairs, SEEN), tmp_path)
    for b, m, n, k in SIZES:
        for c in cases:
            a, w = random(b, m, k), random(b, k, n)
            x = np.ascontiguousarray(a.swapaxes(1, 2)) if c.name[0] == "t" else a
            y = np.ascontiguousarray(w.swapaxes(1, 2)) if c.name[1] == "t" else w
            out = np.full((b, m, n), np.nan, np.float32)
            call(library, c, {"a": x, "b": y, "out": out}, (b, m, n, k))
            close(out, *product(a, w))


def test_output_transposed_and_swapped(tmp_path: Path) -> None:
    store = Store("out", "f32", index(i0=M * N, n=M, m=1), Ref("f32", "acc"))
    right = load("b", i0=N * K, n=K, k=1)
    c = bmm((B, M, N, K), out=store, b=right)
    twin = replace(c, name="dot")
    assert default_schedules(c)[0].swap
    pairs = [(c, default_schedules(c)[0]), (twin, ContractionSchedule(kernel="dot"))]
    library = compile_source(source_of(pairs, SEEN), tmp_path)
    for b, m, n, k in SIZES:
        for which in (c, twin):
            a, w, out = random(b, m, k), random(b, n, k), np.full((b, n, m), np.nan, np.float32)
            call(library, which, {"a": a, "b": w, "out": out}, (b, m, n, k))
            oracle, low = product(a, w.swapaxes(1, 2))
            close(out.swapaxes(1, 2), oracle, low)


def test_batch_axes_permuted_and_broadcast(tmp_path: Path) -> None:
    """X[B, M, H, K] times Y[H, K, N]: heads inside rows, B broadcast over the first batch axis."""
    heads = symbol("s4", 3)
    c = Contraction(
        "heads",
        (Axis("i0", B), Axis("i1", heads)),
        Axis("m", M),
        Axis("n", N),
        Axis("k", K),
        load("a", i0=M * heads * K, m=heads * K, i1=K, k=1),
        load("b", i1=K * N, k=N, n=1),
        (Store("out", "f32", index(i0=heads * M * N, i1=M * N, m=N, n=1), Ref("f32", "acc")),),
    )
    shared = replace(c, name="shared", b=load("b", i0=0, k=N, n=1))
    seen = {**SEEN, "s4": (3,)}
    library = compile_source(source_of([(c, SMALL), (shared, SMALL)], seen), tmp_path)
    for b, m, n, k in SIZES:
        x, y = random(b, m, 3, k), random(3, k, n)
        out = np.full((b, 3, m, n), np.nan, np.float32)
        for which, w in ((c, y), (shared, np.broadcast_to(y[:1], y.shape))):
            call(library, which, {"a": x, "b": y, "out": out}, (b, m, n, k, 3))
            close(out, *product(x.swapaxes(1, 2), w))


def gelu(x: Expr) -> Expr:
    root = Call("f32", "mul", (x, Const("f32", 0.5**0.5)))
    one = Call("f32", "add", (Call("f32", "erf", (root,)), Const("f32", 1.0)))
    return Call("f32", "mul", (Call("f32", "mul", (x, Const("f32", 0.5))), one))


@pytest.mark.parametrize("ahead", [True, False])
def test_prologue_epilogue_and_weight_packed_ahead(ahead: bool, tmp_path: Path) -> None:
    """gelu(relu(x) W^T + bias) + residual, the weight shared by the batch."""
    relu = Call("f32", "max", (load("a", i0=M * K, m=K, k=1), Const("f32", 0.0)))
    biased = Call("f32", "add", (Ref("f32", "acc"), load("bias", n=1)))
    residual = load("rest", i0=M * N, m=N, n=1)
    value = Call("f32", "add", (gelu(biased), residual))
    weight = load("b", n=K, k=1)
    c = bmm((B, M, N, K), a=relu, b=weight, value=value)
    schedule = replace(SMALL, ahead=ahead)
    assert legal(c, replace(schedule, pack_a=False)).pack_a
    library = compile_source(source_of([(c, schedule)], SEEN), tmp_path)
    for b, m, n, k in SIZES:
        x, w, bias, rest = random(b, m, k), random(n, k), random(n), random(b, m, n)
        out = np.full((b, m, n), np.nan, np.float32)
        arrays = {"a": x, "b": w, "bias": bias, "rest": rest, "out": out}
        call(library, c, arrays, (b, m, n, k), ahead=ahead)
        answers = []
        for kind in (torch.float64, torch.float32):
            tx, tw, tb, tr = (torch.from_numpy(v.copy()).to(kind) for v in (x, w, bias, rest))
            linear = torch.nn.functional.linear(tx.relu(), tw, tb)
            answers.append((torch.nn.functional.gelu(linear) + tr).numpy())
        close(out, answers[0], answers[1])


@pytest.mark.parametrize("dtype", ["bf16", "f16", "f64"])
def test_other_types(dtype: str, tmp_path: Path) -> None:
    kind = {"bf16": torch.bfloat16, "f16": torch.float16, "f64": torch.float64}[dtype]
    c = bmm((B, M, N, K), dtype=dtype)  # type: ignore[arg-type]
    schedule = replace(SMALL, width=8) if dtype == "f64" else SMALL
    library = compile_source(source_of([(c, schedule)], SEEN, schedule.width), tmp_path)
    for b, m, n, k in SIZES:
        a, w = (torch.from_numpy(random(*s).copy()).to(kind) for s in ((b, m, k), (b, k, n)))
        out = torch.full((b, m, n), float("nan"), dtype=kind)
        raw = torch.int16 if dtype != "f64" else kind
        arrays = {"a": a.view(raw).numpy(), "b": w.view(raw).numpy(), "out": out.view(raw).numpy()}
        call(library, c, arrays, (b, m, n, k))
        oracle = (a.double() @ w.double()).numpy()
        close(out.double().numpy(), oracle, (a @ w).double().numpy())


def test_default_schedules_fit_the_shape() -> None:
    def first(b: int, m: int, n: int, k: int, weight: bool = False) -> ContractionSchedule:
        sizes = symbols_at((b, m, n, k))
        per_batch = {} if weight else {"i0": sizes[2] * sizes[3]}
        c = bmm(sizes, b=load("b", n=sizes[3], k=1, **per_batch))
        return default_schedules(c, weight)[0]

    assert first(1, 1, 4096, 4096).kernel == "dot"
    assert first(1, 1, 4096, 4096, weight=True).ahead
    assert first(1, 1024, 1024, 1024).k_block
    assert first(512, 24, 64, 24).fixed
    assert first(1, 4096, 1, 512).swap


def test_neighbours_answer_the_diagnosis() -> None:
    c = bmm(symbols_at((1, 512, 512, 512)))
    start = default_schedules(c)[0]
    for limit, word in (("compute", "compute"), ("memory", "memory"), ("cache", "cache")):
        options = neighbours(c, start, limit)  # type: ignore[arg-type]
        assert options[0].reason.startswith(word)
        assert len({o.schedule for o in options}) == len(options)
        assert all(legal(c, o.schedule) == o.schedule != start for o in options)
    assert not any(o.schedule.ahead for o in neighbours(c, start))
    shared = bmm(symbols_at((1, 512, 512, 512)), b=load("b", k=N, n=1))
    assert any(o.schedule.ahead for o in neighbours(shared, start, weight=True))


def test_offsets_are_honoured(tmp_path: Path) -> None:
    """A slice of a wider buffer: constant offset and a row stride that is not the extent."""
    wide = N + Size.of(5)
    right = load("b", i0=K * wide, k=wide, n=1)
    right = replace(right, index=Index(Size.of(5), right.index.terms))
    c = bmm((B, M, N, K), b=right)
    assert c.b.index.terms[1] == Term("k", wide)  # type: ignore[union-attr]
    schedule = ContractionSchedule(pack_a=False, pack_b=False)
    library = compile_source(source_of([(c, schedule)], SEEN), tmp_path)
    for b, m, n, k in SIZES:
        a, w, out = random(b, m, k), random(b, k, n + 5), np.full((b, m, n), np.nan, np.float32)
        call(library, c, {"a": a, "b": w, "out": out}, (b, m, n, k))
        close(out, *product(a, w[..., 5:]))


def test_batch_of_one_weight_becomes_rows(tmp_path: Path) -> None:
    """X[B, M, K] W^T + bias is one product of B * M rows; a residual's strides must agree."""
    weight = load("b", n=K, k=1)
    value = Call("f32", "add", (Ref("f32", "acc"), load("bias", n=1)))
    c = bmm((B, M, N, K), b=weight, value=value)
    assert not collapsed(c).batch
    assert collapsed(bmm((B, M, N, K))).batch
    per_row = Call("f32", "add", (Ref("f32", "acc"), load("bias", m=1)))
    assert collapsed(bmm((B, M, N, K), b=weight, value=per_row)).batch
    one = bmm((B, Size.of(1), N, K), b=weight, value=value, name="one")
    assert not collapsed(one).batch
    pairs = [(x, default_schedules(x, weight=False)[0]) for x in (c, one)]
    library = compile_source(source_of(pairs, SEEN), tmp_path)
    for b, m, n, k in SIZES:
        for which, rows in ((c, m), (one, 1)):
            x, w, bias = random(b, rows, k), random(n, k), random(n)
            out = np.full((b, rows, n), np.nan, np.float32)
            arrays = {"a": x, "b": w, "bias": bias, "out": out}
            call(library, which, arrays, (b, rows, n, k))
            oracle, low = product(x, w.T)
            close(out, oracle + bias, low + bias)


def test_only_one_weight_can_be_packed_ahead() -> None:
    ahead = ContractionSchedule(ahead=True)
    assert not legal(bmm((B, M, N, K)), ahead).ahead
    shared = bmm((B, M, N, K), b=load("b", k=N, n=1))
    assert legal(shared, ahead).ahead
    assert not legal(shared, replace(ahead, swap=True)).ahead
