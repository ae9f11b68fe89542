import os
import subprocess
import sys
import time

import numpy as np
import pytest

from kernelevolve.evaluation import peek
from kernelevolve.evaluation.peek import Extent
from kernelevolve.evaluation.processes import Runner
from kernelevolve.evaluation.tree import Tree

FORKS = """
import ctypes, os, time
ctypes.CDLL(None).prctl(36, 1)
def work():
    while time.process_time() < 0.05:
        pass
    os._exit(0)
if not os.fork():
    os.fork() or work()
    os.wait()
    if not os.fork():
        os.fork() or work()
        os._exit(0)
    os._exit(0)
try:
    while True:
        os.wait()
except ChildProcessError:
    print(flush=True)
os.read(0, 1)
"""
WORKS = """
import ctypes, os, threading
memory = ctypes.create_string_buffer(64)
if os.fork():
    print(ctypes.addressof(memory), os.getpid(), flush=True)
count = ctypes.c_uint64.from_buffer(memory)
def work():
    while True:
        count.value += 1
threading.Thread(target=work, daemon=True).start()
work()
"""


def test_children_that_have_ended_count_whoever_waited_for_them():
    with subprocess.Popen(
        [sys.executable, "-c", FORKS], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as init:
        tree = Tree(init.pid)
        assert init.stdout is not None
        init.stdout.readline()
        assert tree.pids() == []
        assert tree.cpu() >= 0.08
        tree.close()
        init.kill()


class Scheduled:
    """A tree of which everything is known."""

    def scheduled(self, pid):
        return 2.0, 5.0

    def cpu(self):
        return 6.0


@pytest.mark.parametrize(
    ("cores", "waited"), [({3}, 1.0), ({2, 3}, 5.0)], ids=["one core", "several"]
)
def test_waiting_for_threads_of_its_own_is_no_waiting(cores, waited):
    runner = Runner.__new__(Runner)
    runner.tree, runner.driver, runner.cores = Scheduled(), 1, frozenset(cores)
    assert runner.waited() == waited


def test_what_a_thread_ran_is_known():
    ran, waited = Tree(os.getpid()).scheduled(os.getpid())
    assert 0.01 < ran < time.process_time() + 0.01
    assert waited >= 0.0


def test_a_halted_tree_neither_works_nor_changes_its_memory_and_goes_on_afterwards():
    with subprocess.Popen(
        [sys.executable, "-c", f"import os\nif not os.fork(): exec({WORKS!r})\nos.wait()"],
        stdout=subprocess.PIPE,
        text=True,
    ) as init:
        assert init.stdout is not None
        tree = Tree(init.pid)
        address, worker = map(int, init.stdout.readline().split())
        seen = [np.zeros(8, np.uint8) for _ in range(4)]

        def look(into):
            assert peek.read(worker, [Extent(address, 0, 8)], into)
            return int(into.view(np.uint64)[0]), tree.cpu()

        tree.halt()
        assert len(tree.pids()) == 2
        assert look(seen[0]) == look(seen[1])
        tree.resume()
        while look(seen[2])[0] == int(seen[0].view(np.uint64)[0]):
            pass
        tree.halt()
        assert not peek.read(worker, [Extent(8, 0, 8)], seen[3])
        for pid in tree.pids():
            os.kill(pid, 9)
        tree.close()
        init.kill()
