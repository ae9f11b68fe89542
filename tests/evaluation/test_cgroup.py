import os
import signal
import subprocess
import sys
from contextlib import suppress
from functools import partial

import pytest

from kernelevolve.evaluation.cgroup import Group, enter

HOG = "kept = []\nwhile True: kept.append(bytearray(1 << 20))"
BOMB = """
import os, time
try:
    for _ in range(50):
        if os.fork() == 0:
            time.sleep(600)
except OSError as error:
    print(error.errno)
"""


@pytest.fixture
def group():
    made = Group(processes=20, memory_bytes=64 << 20, name="-test")
    if not made.bounds >= {"pids", "memory"}:
        pytest.skip("control groups cannot be made here")
    yield made
    made.close()


def run(group: Group, code: str) -> tuple[int, str]:
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        preexec_fn=partial(enter, group.doors),
        start_new_session=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    said = process.stdout.readline()
    ended = process.wait(30)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.stdout.close()
    return ended, said.strip()


def test_memory_of_all_members_is_bounded_for_root_too(group):
    assert run(group, HOG)[0] == -signal.SIGKILL


def test_processes_of_all_members_are_bounded_for_root_too(group):
    assert run(group, BOMB) == (0, "11")


def test_a_group_is_gone_when_its_members_are(group):
    run(group, "pass")
    group.close()
    assert not [folder for folder in group._folders if folder.exists()]
