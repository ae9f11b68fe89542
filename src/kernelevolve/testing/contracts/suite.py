"""What every suite must do."""

import ast
from collections.abc import Sequence

import pytest

from kernelevolve import registry
from kernelevolve.core.protocols import Suite
from kernelevolve.core.task import Task

VENDORS = registry.names("target")


class SuiteContract:
    """Subclass with a pytest fixture `suite`."""

    @pytest.fixture(params=VENDORS)
    def tasks(self, suite: Suite, request: pytest.FixtureRequest) -> Sequence[Task]:
        """The tasks at the sizes of each vendor."""
        return suite.tasks(request.param)

    def test_names_are_unique_and_work_in_commands_and_in_names_of_runs(
        self, tasks: Sequence[Task]
    ) -> None:
        names = [task.name for task in tasks]
        assert names
        assert len(set(names)) == len(names)
        assert all(name.isidentifier() for name in names)

    def test_the_same_tasks_come_at_every_call_and_for_every_vendor(self, suite: Suite) -> None:
        for vendor in VENDORS:
            assert [t.id for t in suite.tasks(vendor)] == [t.id for t in suite.tasks(vendor)]
        assert len({tuple(t.name for t in suite.tasks(vendor)) for vendor in VENDORS}) == 1

    def test_each_says_what_it_computes(self, tasks: Sequence[Task]) -> None:
        assert all(len(task.statement) > 80 for task in tasks)

    def test_each_has_several_workloads_and_one_that_is_held_out(
        self, tasks: Sequence[Task]
    ) -> None:
        for task in tasks:
            assert len(task.shown) >= 2, task.name
            assert len(task.shown) < len(task.workloads), task.name
            sizes = [workload.sizes for workload in task.workloads]
            assert all(sizes.count(one) == 1 for one in sizes), task.name

    def test_every_size_is_a_parameter_and_the_source_declares_no_other(
        self, tasks: Sequence[Task]
    ) -> None:
        for task in tasks:
            known = {
                argument.arg
                for node in ast.parse(task.source).body
                if isinstance(node, ast.FunctionDef)
                and node.name in ("get_inputs", "get_init_inputs")
                for argument in node.args.args
            }
            for workload in task.workloads:
                assert set(workload.sizes) == known, f"{task.name}: {workload.name}"
