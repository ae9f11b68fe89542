from random import Random
from typing import Any

import pytest

from kernelevolve.core.candidate import Candidate
from kernelevolve.core.evaluation import Build
from kernelevolve.evaluation.processes import Lost
from kernelevolve.evaluation.sanitize import Checked, look_on, summary

ADDRESS = """Hello, I print ERROR: often
=================================================================
==2==ERROR: AddressSanitizer: heap-buffer-overflow on address 0x61f00001b18c at pc 0x7f01
READ of size 4 at 0x61f00001b18c thread T0
    #0 0x7f0145c3 in twice /builds/1a-sanitized/kernel.cpp:4
    #1 0x7f0245c3  (/usr/lib/libffi.so.8+0x7f79)

0x61f00001b18c is located 0 bytes to the right of 4284-byte region
    #0 0x7f2345c3 in __interceptor_posix_memalign asan_malloc_linux.cpp:145
"""
UNDEFINED = (
    "noise\n/b/kernel.cpp:7:30: runtime error: signed integer overflow: 2147483647 + 1 cannot be "
    "represented in type 'int'\n"
)


def test_a_report_in_one_line():
    assert (
        summary(ADDRESS)
        == "AddressSanitizer: heap-buffer-overflow, READ of size 4 at kernel.cpp:4 in twice"
    )
    assert summary(UNDEFINED).endswith("'int' at kernel.cpp:7:30")
    assert summary("Killed, ERROR: no memory") == ""


def looked_at(tool: str) -> tuple[str, ...]:
    """What is said of a runner that does not start."""

    def start(_runner: Any) -> None:
        raise Lost("a runner could not start: no answer within 30 s")

    nobody: Any = None
    candidate = Candidate(language="cuda", files=())
    checked = Checked(nobody, lambda: "", tool)
    return look_on(checked, Build(ok=True), candidate, (), start, nobody, Random(1), 30.0)


def test_a_tool_whose_runner_does_not_start_is_a_remark_and_nothing_is_judged_again():
    assert looked_at("memcheck") == (
        "not checked by memcheck: a runner could not start: no answer within 30 s",
    )


def test_without_a_tool_of_its_own_a_runner_that_does_not_start_is_the_harness_s_failure():
    with pytest.raises(Lost):
        looked_at("")
