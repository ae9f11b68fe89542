"""C++ of notes: all in one translation unit, each function against NumPy."""

import ctypes
import subprocess
from typing import Any

import numpy as np
import pytest

from tests.knowledge.notes_kit import shown

pytestmark = pytest.mark.needs_gxx
CODE = shown("cpp")
FLAGS = ("-std=c++17", "-O2", "-march=native", "-fopenmp", "-Wall", "-Werror", "-Wno-psabi")
random = np.random.default_rng(7)


def floats(*shape: int) -> np.ndarray[Any, Any]:
    return random.standard_normal(shape).astype(np.float32)


@pytest.fixture(scope="module")
def call(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("notes")
    source, built = folder / "notes.cpp", folder / "notes.so"
    source.write_text("\n".join(f"// {ref}\n{code}" for ref, code in CODE.items()))
    command = ["g++", *FLAGS, "-fPIC", "-shared", str(source), "-o", str(built)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    library = ctypes.CDLL(str(built))

    def function(name: str, *arguments: Any) -> None:
        given = {np.ndarray: lambda a: ctypes.c_void_p(a.ctypes.data), float: ctypes.c_float}
        getattr(library, name)(*(given.get(type(a), ctypes.c_long)(a) for a in arguments))

    return function


def maxima(call: Any) -> None:
    x, out = floats(5, 33) - 100, floats(5)
    call("row_maxima", x, out, 5, 33)
    np.testing.assert_array_equal(out, x.max(1))


def leaky(call: Any) -> None:
    x, out = floats(37), floats(37)
    call("leaky", x, out, 0.1, 37)
    np.testing.assert_array_equal(out, np.where(x < 0, x * np.float32(0.1), x))


def dot(call: Any) -> None:
    a, b, out = floats(1003), floats(1003), floats(1)
    call("dot", a, b, out, 1003)
    np.testing.assert_allclose(out[0], a.astype(float) @ b.astype(float), rtol=1e-5)


def scaled(call: Any) -> None:
    x, gain, out = floats(3, 19), floats(3), floats(3, 19)
    call("scale_rows", x, gain, out, 3, 19)
    np.testing.assert_array_equal(out, x * gain[:, None])


def exponentials(call: Any) -> None:
    x = np.linspace(-87, 88, 100_001, dtype=np.float32)
    out = np.empty_like(x)
    call("exps", x, out, x.size)
    true = np.exp(x.astype(float))
    ulps = np.abs(out - true) / np.spacing(true.astype(np.float32))
    assert ulps.max() < 2
    call("exps", np.full(1, -90, np.float32), out, 1)
    assert out[0] == 0


def softmax(call: Any) -> None:
    x, out = floats(1000) * 10, floats(1000)
    for shift in (0, 1e4, -1e4):
        call("softmax_row", (x + np.float32(shift)), out, 1000)
        moved = (x + np.float32(shift)).astype(float)
        true = np.exp(moved - moved.max())
        np.testing.assert_allclose(out, true / true.sum(), rtol=1e-5, atol=1e-12)


def product(call: Any) -> None:
    a, b, c = floats(20, 17), floats(17, 64), floats(20, 64)
    call("product32", a, b, c, 20, 17, 64)
    np.testing.assert_allclose(c, a @ b, rtol=1e-4, atol=1e-5)


def widened(halves: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return (halves.astype(np.uint32) << 16).view(np.float32)


def bfloat16(call: Any) -> None:
    a, b = (random.integers(0, 1 << 16, 5000).astype(np.uint16) for _ in range(2))
    out = np.empty_like(a)
    call("add_bf16", a, b, out, a.size)
    with np.errstate(all="ignore"):
        exact, got = widened(a) + widened(b), widened(out)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(exact))
    down = (exact.view(np.uint32) >> 16).astype(np.uint16)
    finite = np.isfinite(exact) & np.isfinite(widened(down + np.uint16(1)))
    low, high = (widened((down + np.uint16(k))[finite]).astype(float) for k in (0, 1))
    far = np.abs(high - exact[finite]) - np.abs(low - exact[finite])
    even = np.where(down[finite] % 2 == 0, low, high)
    nearest = np.where(far == 0, even, np.where(far > 0, low, high))
    np.testing.assert_array_equal(got[finite], nearest)


def squares(call: Any) -> None:
    for n in (1, 15, 16, 17, 40):
        x, out = floats(n), floats(n)
        call("squares", x, out, n)
        np.testing.assert_array_equal(out, x * x)


def sums(call: Any) -> None:
    for rows in (3, 700):
        x, out = floats(rows, 301), floats(rows)
        call("row_sums", x, out, rows, 301)
        np.testing.assert_allclose(out, x.sum(1, dtype=float), atol=1e-4)


def transposed(call: Any) -> None:
    x, out = floats(33, 50), floats(50, 33)
    call("transposed", x, out, 33, 50)
    np.testing.assert_array_equal(out, x.T)


def moments(call: Any) -> None:
    for offset in (0, 1000, -5000):
        x, mean, variance = floats(1001) + np.float32(offset), floats(1), floats(1)
        call("moments", x, mean, variance, 1001)
        np.testing.assert_allclose(mean[0], x.mean(dtype=float), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(variance[0], x.var(dtype=float), rtol=1e-4)


def bounds(call: Any) -> None:
    for n in (0, 1, 2, 7, 64):
        table = np.sort(random.integers(0, 20, n)).astype(np.float32)
        queries = np.arange(-1, 22, dtype=np.float32)
        out = np.empty(queries.size, np.int64)
        call("lower_bounds", table, n, queries, out, queries.size)
        np.testing.assert_array_equal(out, np.searchsorted(table, queries))


CHECKS = {
    "languages/cpp/fast-math-and-infinity": maxima,
    "languages/cpp/vector-extensions": leaky,
    "languages/cpp/partial-sums": dot,
    "languages/cpp/restrict": scaled,
    "languages/cpp/exp-by-polynomial": exponentials,
    "languages/cpp/online-softmax-of-a-row": softmax,
    "languages/cpp/register-tile-product": product,
    "languages/cpp/bfloat16-by-hand": bfloat16,
    "languages/cpp/overlapping-tail": squares,
    "languages/cpp/threads-over-rows": sums,
    "languages/cpp/transpose-in-blocks": transposed,
    "languages/cpp/merged-moments": moments,
    "languages/cpp/branch-free-lower-bound": bounds,
}


def test_every_note_with_code_is_checked() -> None:
    assert set(CODE) == set(CHECKS)


@pytest.mark.parametrize("ref", sorted(CHECKS))
def test_code_of_a_note_computes_what_it_says(call: Any, ref: str) -> None:
    CHECKS[ref](call)
