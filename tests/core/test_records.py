"""What every record promises."""

from kernelevolve.core.candidate import Candidate, SourceFile
from kernelevolve.core.task import Task, Workload


def test_a_changed_copy_has_an_id_of_its_own() -> None:
    task = Task(name="t", source="x = 1", workloads=(Workload(name="default"),))
    same = Task.model_validate_json(task.model_dump_json())
    assert task.id == same.id
    changed = task.model_copy(update={"source": "x = 2"})
    assert changed.id != task.id
    assert changed.id == Task.model_validate_json(changed.model_dump_json()).id


def test_a_changed_candidate_is_another_candidate() -> None:
    file = SourceFile(path="model.py", text="a = 1")
    candidate = Candidate(language="cpp", files=(file,))
    other = candidate.model_copy(update={"files": (SourceFile(path="model.py", text="a = 2"),)})
    assert (candidate.id == other.id) is False
