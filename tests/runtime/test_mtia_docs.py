"""docs/mtia.md says what the simulator knows."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kernelevolve.runtime import mtia
from tests.runtime import test_mtia_published as published

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "mtia.md").read_text()


def test_constants_are_those_of_the_sheet():
    """Made anew by `python tools/mtia_constants.py`."""
    program = "import mtia_constants as m; print(m.replaced(m.PAGE.read_text()), end='')"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT / "tools",
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == PAGE


def test_errors_are_those_that_tests_hold():
    for (_, entries, rows), (us, error, _) in published.MAP_ID.items():
        (row,) = re.findall(rf"^\| {entries}×{rows} \|.*$", PAGE, re.MULTILINE)
        sign = "−" if error < 0 else "+"
        assert f"| {us} | {sign}{abs(error)} %" in row


@pytest.mark.needs_gxx
def test_the_example_of_the_page_runs(tmp_path):
    (code,) = re.findall(r"```cpp\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "kernel.cpp").write_text(code)
    x, out = torch.randn(200_001), torch.empty(200_001)
    mtia.load_from(tmp_path, "kernel.cpp", "twice")(x, out, x.numel())
    assert torch.equal(out, 2 * x)
