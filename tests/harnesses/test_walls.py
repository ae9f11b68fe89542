import time
from pathlib import Path

import pytest
import torch

from kernelevolve.core.evaluation import Status
from kernelevolve.evaluation import sandbox
from kernelevolve.evaluation.tree import descendants

pytestmark = [
    pytest.mark.needs_sandbox,
    pytest.mark.skipif(sandbox.state() == "none", reason="bubblewrap is missing"),
]
TASK = """
MARK = "the reference's own text"
class Model(nn.Module):
    def forward(self, x):
        return x + 1

def get_inputs():
    return [torch.randn(16, 16)]
"""


def attempt(bench, body: str):
    model = f"""
import os, socket, glob, subprocess
def attempt():
{body}
class ModelNew(nn.Module):
    def forward(self, x):
        raise RuntimeError("got: " + str(attempt()))
"""
    found = bench.verdict(bench.task(TASK), model)
    assert found.status is Status.CRASHED, found.message
    return found.message.splitlines()[0]


def test_no_network(bench):
    body = "    return socket.create_connection(('127.0.0.1', 22), 1)"
    assert "Error" in attempt(bench, body).split(":")[0]
    assert "got: ['lo']" in attempt(bench, "    return [name for _, name in socket.if_nameindex()]")


def test_nothing_of_the_machine_can_be_written(bench):
    body = """
    for folder in ("/", "/usr", "/etc", "/work", "/root", "/home", os.path.dirname(__file__),
                   os.path.dirname(torch.__file__)):
        try:
            open(os.path.join(folder, "kernelevolve-was-here"), "w").close()
        except OSError:
            pass"""
    attempt(bench, body)
    folders = ("/", "/usr", "/etc", "/home", Path.home(), Path(torch.__file__).parent)
    assert not [f for f in folders if Path(f, "kernelevolve-was-here").exists()]
    assert not list(bench.harness.folder.rglob("kernelevolve-was-here"))


def test_the_reference_and_other_builds_cannot_be_read(bench, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("x")
    body = f"""
    own = os.path.dirname(os.path.dirname(__file__))
    return [os.listdir(own) == [os.path.basename(os.path.dirname(__file__))],
            os.path.exists({str(secret)!r}), "task" in __import__("sys").modules,
            os.path.exists("/tmp/task.py"), os.path.exists({str(Path(__file__).parent)!r})]"""
    assert "got: [True, False, False, False, False]" in attempt(bench, body)


def test_children_end_with_the_candidate(bench, tmp_path):
    body = """
    for _ in range(200):
        try:
            if os.fork() == 0:
                os.setsid()
                __import__("time").sleep(600)
        except OSError as error:
            return error
    return 'no limit'"""
    message = attempt(bench, body)
    assert "no limit" not in message
    judge = bench.harness._judge.process.pid
    deadline = time.monotonic() + 10
    while len(descendants(judge)) > 20 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(descendants(judge)) <= 20


def test_nothing_is_left_for_the_next_candidate(bench):
    body = """
    found = [p for f in ("/tmp", "/dev/shm") for p in glob.glob(f + "/*left*")]
    for folder in ("/tmp", "/dev/shm"):
        open(folder + "/left", "w").write("answer")
    return found"""
    assert "got: []" in attempt(bench, body)
    assert "got: []" in attempt(bench, body + "  # again")
