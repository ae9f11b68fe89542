"""What is said of what binds a kernel."""

from kernelevolve.core.evaluation import Build
from kernelevolve.evaluation import physics


def test_what_holds_a_gpu_kernel_back_is_said():
    needs = {"registers": 168.0, "shared_bytes": 4096.0, "occupancy": 0.25, "spill_bytes": 16.0}
    said = physics.held_back(Build(ok=True, resources=needs))
    assert "16 bytes of registers are spilled" in said
    assert "168 registers a thread" in said
    assert "25% of a multiprocessor" in said
    assert (
        physics.held_back(Build(ok=True, resources=needs | {"occupancy": 0.75, "spill_bytes": 0.0}))
        == ""
    )
