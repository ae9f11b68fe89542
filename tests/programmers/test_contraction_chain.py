"""Chains of contractions and row stages, compiled and compared with a float64 oracle."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kernelevolve.programmers.builtin.emit.contraction import contraction_prelude
from kernelevolve.programmers.builtin.emit.contraction_chain import (
    ChainSchedule,
    chain_buffers,
    chain_neighbours,
    default_chain_schedules,
    emit_chain,
)
from kernelevolve.programmers.builtin.emit.contraction_rows import stashed
from kernelevolve.programmers.builtin.emit.contraction_schedule import ContractionSchedule
from kernelevolve.programmers.builtin.emit.contraction_stages import Stage, chainable, find_chains
from kernelevolve.programmers.builtin.emit.expr import prelude
from kernelevolve.programmers.builtin.ir import (
    Axis,
    Call,
    Const,
    Contraction,
    Expr,
    MapReduce,
    Opaque,
    Pass,
    Reduction,
    Ref,
    Size,
    Store,
)

from .contraction_kit import compile_source, index, load, symbol
from .test_contraction import close, gelu, random

pytestmark = pytest.mark.needs_gxx

ACC = Ref("f32", "acc")


def call2(fn: str, a: Expr, b: Expr) -> Expr:
    return Call("f32", fn, (a, b))


def attention(batch: Size, rows: Size, columns: Size, depth: Size) -> tuple[Stage, ...]:
    """softmax(Q K^T / 8) V over v0 = scores, v1 = weights."""
    score = Contraction(
        "v0", (Axis("batch0", batch),), Axis("m", rows), Axis("n", columns), Axis("k", depth),
        load("q", batch0=rows * depth, m=depth, k=1),
        load("key", batch0=columns * depth, n=depth, k=1),
        (Store("v0", "f32", index(batch0=rows * columns, m=columns, n=1),
               call2("mul", ACC, Const("f32", 0.125))),),
    )  # fmt: skip

    def row(axis: str) -> Expr:
        return load("v0", d0=columns, **{axis: 1})

    def weight(axis: str) -> Expr:
        return Call("f32", "exp", (call2("sub", row(axis), Ref("f32", "top")),))

    softmax = MapReduce(
        "v1",
        (Axis("d0", batch * rows),),
        (
            Pass((Axis("r0", columns),), (Reduction("top", "max", row("r0"), "f32"),)),
            Pass((Axis("r1", columns),), (Reduction("all", "sum", weight("r1"), "f32"),)),
            Pass((Axis("d1", columns),), (), (
                Store("v1", "f32", index(d0=columns, d1=1),
                      call2("div", weight("d1"), Ref("f32", "all"))),)),
        ),
    )  # fmt: skip
    mixed = Contraction(
        "v2", (Axis("batch0", batch),), Axis("m", rows), Axis("n", depth), Axis("k", columns),
        load("v1", batch0=rows * columns, m=columns, k=1),
        load("value", batch0=columns * depth, k=depth, n=1),
        (Store("out", "f32", index(batch0=rows * depth, m=depth, n=1), ACC),),
    )  # fmt: skip
    return score, softmax, mixed


def mlp(rows: Size, inner: Size, hidden: Size, outer: Size) -> tuple[Stage, ...]:
    """linear(gelu(linear(x, w1, b1)), w2, b2)."""
    up = Contraction(
        "v0", (), Axis("m", rows), Axis("n", hidden), Axis("k", inner),
        load("x", m=inner, k=1), load("w1", n=inner, k=1),
        (Store("v0", "f32", index(m=hidden, n=1), gelu(call2("add", ACC, load("b1", n=1)))),),
    )  # fmt: skip
    down = Contraction(
        "v1", (), Axis("m", rows), Axis("n", outer), Axis("k", hidden),
        load("v0", m=hidden, k=1), load("w2", n=hidden, k=1),
        (Store("out", "f32", index(m=outer, n=1), call2("add", ACC, load("b2", n=1))),),
    )  # fmt: skip
    return up, down


def build(
    stages: tuple[Stage, ...],
    local: tuple[str, ...],
    schedule: ChainSchedule,
    symbols: dict[str, tuple[int, ...]],
    folder: Path,
) -> ctypes.CDLL:
    assert chainable(stages)
    text = emit_chain("chain", stages, local, schedule, symbols)
    return compile_source(
        "\n".join([prelude(16, False), contraction_prelude(), text]), folder, ["-O3"]
    )


def run(
    library: ctypes.CDLL,
    stages: tuple[Stage, ...],
    local: tuple[str, ...],
    arrays: dict[str, np.ndarray],
    sizes: tuple[int, ...],
    ahead: bool = False,
) -> None:
    pointers = [ctypes.c_void_p(arrays[b.name].ctypes.data) for b in chain_buffers(stages, local)]
    numbers = [ctypes.c_int64(s) for s in sizes]
    ready = None
    if ahead:
        library.chain_packed.restype = ctypes.c_int64
        kept = np.zeros(library.chain_packed(*numbers), np.float32)
        ready = kept.ctypes.data
        library.chain_pack(*pointers, ctypes.c_void_p(ready), *numbers)
    library.chain(*pointers, ctypes.c_void_p(ready), *numbers)


SIZES = ((1, 1, 1, 1), (2, 37, 53, 19), (3, 130, 96, 64))
SYMBOLS = {"s0": (3,), "s1": (130,), "s2": (96,), "s3": (64,)}


def four() -> tuple[Size, Size, Size, Size]:
    s = [symbol(n, *v) for n, v in SYMBOLS.items()]
    return s[0], s[1], s[2], s[3]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["default", "whole", "threads"])
def test_attention(kind: str, tmp_path: Path) -> None:
    stages = attention(*four())
    local = ("v0", "v1") if kind != "whole" else ("v1",)
    schedule = default_chain_schedules(stages)[0]
    if kind == "whole":
        schedule = replace(schedule, rows=16, fixed=False)
    if kind == "threads":
        small = ContractionSchedule(rows=6, vectors=2, m_block=12, k_block=16)
        schedule = ChainSchedule(rows=24, stages=(small, small), parallel=True)
    library = build(stages, local, schedule, SYMBOLS, tmp_path)
    for b, m, n, d in SIZES:
        q, key, value = random(b, m, d), random(b, n, d) * np.float32(3), random(b, n, d)
        out, scores = np.full((b, m, d), np.nan, np.float32), np.zeros((b, m, n), np.float32)
        arrays = {"q": q, "key": key, "value": value, "out": out, "v0": scores}
        run(library, stages, local, arrays, (b, m, n, d))
        answers = []
        for kind_ in (torch.float64, torch.float32):
            tq, tk, tv = (torch.from_numpy(x.copy()).to(kind_) for x in (q, key, value))
            answers.append((torch.softmax(tq @ tk.mT * 0.125, -1) @ tv).numpy())
        close(out, answers[0], answers[1])
        if "v0" not in local:
            close(scores, q.astype(float) @ key.swapaxes(1, 2) * 0.125, scores)


@pytest.mark.parametrize("ahead", [True, False])
def test_mlp(ahead: bool, tmp_path: Path) -> None:
    stages = mlp(*four())
    one = ContractionSchedule(rows=6, vectors=2, m_block=0, pack_a=False, ahead=ahead)
    schedule = ChainSchedule(rows=24, stages=(one, replace(one, ahead=True)))
    library = build(stages, ("v0",), schedule, SYMBOLS, tmp_path)
    for m, i, h, o in ((1, 1, 1, 1), (37, 19, 53, 70), (130, 96, 64, 30)):
        x, w1, b1, w2, b2 = random(m, i), random(h, i), random(h), random(o, h), random(o)
        out = np.full((m, o), np.nan, np.float32)
        arrays = {"x": x, "w1": w1, "b1": b1, "w2": w2, "b2": b2, "out": out}
        run(library, stages, ("v0",), arrays, (m, i, h, o), ahead=True)
        answers = []
        for kind in (torch.float64, torch.float32):
            t = [torch.from_numpy(v.copy()).to(kind) for v in (x, w1, b1, w2, b2)]
            inner = torch.nn.functional.gelu(torch.nn.functional.linear(*t[:3]))
            answers.append(torch.nn.functional.linear(inner, *t[3:]).numpy())
        close(out, answers[0], answers[1])


def test_stages_that_need_other_rows_are_refused() -> None:
    score, softmax, mixed = attention(*four())
    assert chainable((score, softmax, mixed))
    assert not chainable((score,))
    assert isinstance(mixed, Contraction) and isinstance(softmax, MapReduce)
    as_right = replace(mixed, b=mixed.a)
    assert not chainable((score, softmax, as_right))
    across = replace(mixed, a=load("v1", batch0=1, m=1, k=four()[2]))
    assert not chainable((score, softmax, across))
    assert not chainable((score, replace(softmax, outer=())))


def test_chains_are_found_between_other_regions() -> None:
    stages = attention(*four())
    before = Opaque("o", ("x",), ("q",), "q = x.sort().values")
    after = Opaque("p", ("out",), ("y",), "y = out.sort().values")
    (chain,) = find_chains((before, *stages, after), kept=("y",))
    assert chain.stages == stages and chain.local == ("v0", "v1")
    (chain,) = find_chains(stages, kept=("out", "v0"))
    assert chain.local == ("v1",)
    assert not find_chains((before, after), kept=("y",))


def test_softmax_keeps_its_exponentials() -> None:
    softmax = attention(*four())[1]
    assert isinstance(softmax, MapReduce)
    kept = stashed(softmax)
    assert kept.passes[1].stores and not softmax.passes[1].stores
    assert stashed(kept) == kept


def test_chain_neighbours_change_one_thing() -> None:
    stages = attention(*four())
    start = default_chain_schedules(stages)[0]
    options = chain_neighbours(stages, start, "compute")
    assert options[0][1].startswith("v0: compute")
    assert all(option != start for option, _ in options)
    assert any(option.rows != start.rows for option, _ in options)
    assert chain_neighbours(stages, start, "cache")[0][1].startswith("cache")
