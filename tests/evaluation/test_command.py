"""Commands of a programmer: their output, their last words, and their end."""

import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kernelevolve.core.errors import ProgrammerError
from kernelevolve.evaluation.command import execute


def run(code, stdin=b"", stop=None):
    return execute([sys.executable, "-c", code], stdin, {}, stop or threading.Event())


def test_large_input_and_output_pass_through():
    data = os.urandom(1 << 20)
    slowly = (
        "import sys, time; read = sys.stdin.buffer.read; first = read(9); time.sleep(0.3); "
        "sys.stdout.buffer.write(first + read())"
    )
    assert run(slowly, data) == data


def test_a_failure_ends_with_its_last_words():
    with pytest.raises(ProgrammerError, match="ended with 3: x{700,}the last word$"):
        run("import sys; print('x' * 9999 + 'the last word', file=sys.stderr); sys.exit(3)")


@pytest.mark.needs_sandbox
def test_whoever_stops_a_command_ends_all_that_it_started():
    stop, marker = threading.Event(), f"marked-{os.getpid()}"
    code = (
        "import subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(3600)', '{marker}'])\n"
        "time.sleep(3600)"
    )
    with ThreadPoolExecutor() as pool:
        ended = pool.submit(run, code, b"", stop)
        while not ended.done() and not marked(marker):
            time.sleep(0.01)
        stop.set()
        with pytest.raises(ProgrammerError, match="was stopped"):
            ended.result()
    while marked(marker):
        time.sleep(0.01)


def marked(marker):
    """Processes whose command line ends with this word."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            text = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
        except OSError:
            continue
        if text.endswith(f"{marker}\0".encode()):
            found.append(entry.name)
    return found
