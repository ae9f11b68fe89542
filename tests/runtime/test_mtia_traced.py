"""One call of a candidate with what its engines did."""

import json
import shutil
from pathlib import Path

import pytest

from kernelevolve import timelines
from kernelevolve.config import RunConfig
from kernelevolve.core.errors import UsageError
from kernelevolve.runtime import mtia
from tests.runtime import mtia_kit

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.slow
@pytest.mark.needs_gxx
def test_a_call_of_the_example_is_traced(monkeypatch):
    from kernelevolve.runtime.mtia.traced import traced

    kept = mtia_kit.folder() / ".build" / mtia.SIMULATOR
    monkeypatch.setattr(mtia, "build_simulator", lambda path: shutil.copyfile(kept, path))
    files = (EXAMPLES / "kernels" / "softmax_mtia").iterdir()
    found = json.loads(
        traced(
            {
                "source": (EXAMPLES / "softmax.py").read_text(),
                "files": {f.name: f.read_text() for f in files if f.is_file()},
                "sizes": {"rows": 24, "columns": 40},
                "mode": None,
                "arch": "300",
            }
        )
    )["traceEvents"]
    done = [e for e in found if e["ph"] == "X"]
    assert {e["args"]["kernel"] for e in done} == {"softmax"}
    assert {e["pid"] for e in done} == {0, 1, 2}
    assert {"read", "write", "map", "fold"} <= {e["name"] for e in done}


def test_other_targets_have_no_timeline():
    with pytest.raises(UsageError, match=r"cpu.* has no simulator.*--target mtia:2i"):
        timelines.can_trace(RunConfig(target="cpu"))
