"""What is taken of kernels that Triton compiled for a GPU."""

from collections import defaultdict
from types import SimpleNamespace

import pytest

from kernelevolve.runtime import launched


@pytest.fixture(autouse=True)
def nothing_launched(monkeypatch):
    monkeypatch.setattr(launched, "kernels", {})


def compiled(name, registers):
    meta = SimpleNamespace(hash=name, shared=1024, num_warps=8)
    return SimpleNamespace(metadata=meta, n_regs=registers, n_spills=0)


def function(*kernels):
    caches = defaultdict(tuple)
    caches[0] = (dict(enumerate(kernels)), {}, None, None, None)
    return SimpleNamespace(fn=len, device_caches=caches)


def test_every_configuration_that_was_launched_counts():
    tuned = SimpleNamespace(fn=SimpleNamespace(fn=function(compiled("a", 40), compiled("b", 96))))
    launched.collect(SimpleNamespace(kernel=tuned, other=1, text="text"))
    assert {name: found["registers"] for name, found in launched.kernels.items()} == {
        "a": 40.0,
        "b": 96.0,
    }
    assert launched.kernels["a"]["block_threads"] == 256.0


def test_what_was_never_loaded_is_left_out():
    launched.collect(SimpleNamespace(kernel=function(compiled("a", None))))
    assert launched.kernels == {}
