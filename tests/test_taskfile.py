from pathlib import Path

import pytest

from kernelevolve import taskfile
from kernelevolve.core.errors import TaskError

PLAIN = """
import torch
class Model(torch.nn.Module):
    def forward(self, x):
        return x
def get_inputs():
    return [torch.randn(4)]
def get_init_inputs():
    return []
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "task.py"
    path.write_text(text)
    return path


def test_a_kernelbench_file_is_a_task_as_it_stands(tmp_path: Path) -> None:
    task = taskfile.read(written(tmp_path, PLAIN))
    assert task.name == "task"
    assert [w.name for w in task.workloads] == ["default"]
    assert task.mode is None


def test_declarations_are_read_without_running_anything(tmp_path: Path) -> None:
    text = (
        '"""What it does."""\n' + PLAIN + 'raise SystemExit("executed")\n'
        'WORKLOADS = {"small": {"rows": 2}}\nHELD_OUT = {"odd": {"rows": 3}}\n'
        'PRECISION = "downcast"\nMODE = "eval"\nBACKWARD = True\n'
        'TOLERANCE = {"rms": 2.0}\nRANDOMISE = {"running_var": (0.5, 2.0)}\n'
    )
    task = taskfile.read(written(tmp_path, text))
    assert [(w.name, w.held_out) for w in task.workloads] == [("small", False), ("odd", True)]
    assert (task.precision, task.mode, task.backward) == ("downcast", "eval", True)
    assert task.tolerance.rms == 2.0
    assert not task.tolerance.widened
    assert task.randomise == {"running_var": (0.5, 2.0)}
    assert task.statement == "What it does."


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("class Model", "class Network"), "does not define Model"),
        (("def get_inputs", "def inputs"), "does not define get_inputs"),
        (("import torch", "import torch\nWORKLOADS = make()"), "must be a literal"),
        (("import torch", "import torch\nWORKLOADS = {1: 2}"), "maps names to sizes"),
        (("import torch", "import torch\nPRECISION = 'half'"), "PRECISION"),
        (("import torch", "import torch\nTOLERANCE = {'atol': 1}"), "ATOL"),
        (("import torch", "import torch\nTOLERANCE = 3"), "wrong form"),
        (("import torch", "import torch\ndef x(:"), "not Python"),
    ],
)
def test_a_bad_file_is_one_clear_error(tmp_path: Path, change: tuple[str, str], says: str) -> None:
    path = written(tmp_path, PLAIN.replace(*change))
    with pytest.raises(TaskError) as caught:
        taskfile.read(path)
    assert str(path) in str(caught.value)
    assert says in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="nowhere.py"):
        taskfile.read(tmp_path / "nowhere.py")


def test_a_name_in_both_lists_is_refused(tmp_path: Path) -> None:
    text = PLAIN + 'WORKLOADS = {"a": {}}\nHELD_OUT = {"a": {}}\n'
    with pytest.raises(TaskError, match="'a' is in WORKLOADS and in HELD_OUT"):
        taskfile.read(written(tmp_path, text))


def test_captured_inputs_become_a_workload_and_replace_get_inputs(tmp_path: Path) -> None:
    captured = tmp_path / "captured.pt"
    captured.write_bytes(b"tensors")
    task = taskfile.read(written(tmp_path, PLAIN.replace("def get_inputs", "def other")), captured)
    assert [w.name for w in task.workloads if w.captured] == ["captured"]
    assert task.captured is not None
    assert task.attachments[task.captured] == b"tensors"


def test_captured_inputs_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="captured.pt"):
        taskfile.read(written(tmp_path, PLAIN), tmp_path / "captured.pt")


def test_the_same_text_is_the_same_task(tmp_path: Path) -> None:
    path = written(tmp_path, PLAIN)
    assert taskfile.read(path).id == taskfile.read(path).id
