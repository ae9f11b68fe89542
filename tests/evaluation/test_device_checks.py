"""What is taken from compute-sanitizer's output."""

from kernelevolve.core.candidate import Candidate, SourceFile
from kernelevolve.evaluation import device_checks

MINE = Candidate(
    language="cuda",
    files=(SourceFile(path="model.py", text=""), SourceFile(path="kernel.cu", text="")),
)
INVALID = """========= COMPUTE-SANITIZER
========= Invalid __global__ write of size 4 bytes
=========     at {name}+0x70 in {place}
=========     by thread (0,0,0) in block (0,0,0)
=========     Access at 0x7f1 is out of bounds
========= ERROR SUMMARY: 1 error
"""
RACE = """========= Error: Race reported between Write access at sum+0x1a0 in kernel.cu:12
=========     and Read access at sum+0x200 in kernel.cu:14 [32 hazards]
"""


def test_a_report_is_told_with_its_line():
    said = device_checks.summary("memcheck", INVALID.format(name="f", place="kernel.cu:7"), MINE)
    assert said == (
        "compute-sanitizer memcheck: Invalid __global__ write of size 4 bytes at kernel.cu:7"
    )


def test_a_race_is_told_with_the_line_that_wrote():
    said = device_checks.summary("racecheck", RACE, MINE)
    assert "Race reported" in said
    assert said.endswith("at kernel.cu:12")


def test_a_library_s_own_kernels_are_none_of_the_candidate_s():
    foreign = INVALID.format(name="gemm", place="cutlass.h:10") + INVALID.format(name="x", place="")
    assert device_checks.summary("memcheck", foreign, MINE) == ""
