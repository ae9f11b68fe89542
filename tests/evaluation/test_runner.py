import weakref
from types import SimpleNamespace

import pytest
import torch

from kernelevolve.evaluation.blocks import Block
from kernelevolve.evaluation.runner import Runner, failure


@pytest.fixture
def runner():
    made = Runner(None)
    made.subjects = {
        name: SimpleNamespace(outcome=lambda buffers: [torch.ones(4)], owns=lambda tensor: False)
        for name in ("small", "large")
    }
    return made


def outcome(runner, workload, block, **more):
    body = {"workload": workload, "buffers": False, "nbytes": block.nbytes, **more}
    runner.do_outcome(body, [block.fd])
    return block.bytes[:16].view("float32").tolist()


def test_memory_of_each_workload_stays_mapped_and_what_comes_once_does_not(runner):
    blocks = {name: Block(4096) for name in ("small", "large", "once")}
    for name in ("small", "large"):
        assert outcome(runner, name, blocks[name]) == [1.0] * 4
    kept = {name: weakref.ref(memory) for name, (_, memory) in runner.outboxes.items()}
    assert outcome(runner, "small", blocks["once"], once=True) == [1.0] * 4
    outcome(runner, "small", blocks["small"])
    assert {name: kept[name]() for name in kept} == {
        name: memory for name, (_, memory) in runner.outboxes.items()
    }
    outcome(runner, "small", blocks["once"])
    assert kept["small"]() is None
    assert kept["large"]() is not None


def test_a_failure_says_what_it_came_from_and_leaves_out_frames_of_libraries():
    with pytest.raises(AttributeError) as raised:
        torch.nn.functional.softmax("no tensor")
    found = failure(raised.value)
    assert [x.split()[2] for x in found["trace"].splitlines()] == [
        "test_a_failure_says_what_it_came_from_and_leaves_out_frames_of_libraries:"
    ]
    raised.value.__cause__ = KeyError("reason")
    raised.value.__cause__.__cause__ = ValueError("deeper")
    text = "\nbecause of KeyError: 'reason'\nbecause of ValueError: deeper"
    assert failure(raised.value)["text"].endswith(text)
