import os
import subprocess
import sys
from pathlib import Path

import pytest

from kernelevolve.evaluation.family import Family, descendants

FORKS = """
import os, sys, threading
wait = threading.Event()
for command, *_ in iter(sys.stdin.readline, ""):
    if command == "f":
        if not os.fork():
            os.setsid()
            wait.wait()
    if command == "m":
        for _ in range(900):
            if not os.fork():
                wait.wait()
    if command == "t":
        threading.Thread(target=wait.wait, daemon=True).start()
    if command == "k":
        os.kill(int(open(f"/proc/self/task/{os.getpid()}/children").read().split()[0]), 9)
        os.wait()
    print(flush=True)
"""


@pytest.fixture
def root():
    with subprocess.Popen(
        [sys.executable, "-c", FORKS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        for pid in descendants(process.pid):
            os.kill(pid, 9)
        process.kill()


def tell(process, command):
    process.stdin.write(command + "\n")
    process.stdin.flush()
    process.stdout.readline()


def test_what_comes_is_found_and_what_goes_is_forgotten(root):
    opened = len([*Path("/proc/self/fd").iterdir()])
    family = Family(root.pid)
    assert family.look()
    assert (family.pids, family.threads, family.look()) == ([], [], False)
    tell(root, "f")
    assert family.look()
    assert not family.look()
    [child] = family.pids
    assert family.threads == [(child, str(child))]
    assert len(family.stats()) == 2
    tell(root, "t")
    assert family.look(), "a thread of the first process may have children too"
    tell(root, "k")
    assert family.stands(), "what has ended does not run"
    assert not family.look()
    assert (family.pids, family.threads) == ([], [])
    family.close()
    assert len([*Path("/proc/self/fd").iterdir()]) == opened


def test_a_crowd_is_found_to_the_last(root):
    tell(root, "m")
    assert len(set(descendants(root.pid))) == 900
