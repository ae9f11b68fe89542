import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from kernelevolve.core.job import Job
from kernelevolve.evaluation import sandbox
from kernelevolve.testing.contracts.harness import HarnessContract

KILLED = """
import asyncio, sys
from pathlib import Path
from kernelevolve.core.evaluation import Stage
from kernelevolve.core.job import Job
from kernelevolve.core.target import TargetSpec
from kernelevolve.harnesses.local import LocalHarness
from kernelevolve.testing.contracts.harness import TASK, candidate
spec = TargetSpec(vendor="cpu", arch="x86_64", cores=(0,))

async def main():
    harness = LocalHarness(spec, "cpp", 1, Path(sys.argv[1]), lambda ref: b"")
    body = "import os; os.fork(); open('/dev/stdout').close()\\n        while True: pass"
    job = Job(task=TASK, candidate=candidate(body), target=spec, stage=Stage.VERIFY, seed="1")
    waiting = asyncio.create_task(harness.evaluate(job))
    while harness._judge is None:
        await asyncio.sleep(0.01)
    print(harness._judge.process.pid, flush=True)
    await waiting

asyncio.run(main())
"""
needs_sandbox = pytest.mark.needs_sandbox
without_sandbox = pytest.mark.skipif(sandbox.state() == "none", reason="bubblewrap is missing")


class TestLocalContract(HarnessContract):
    @pytest.fixture(autouse=True)
    def _use(self, bench):
        self.bench = bench
        self.spec = bench.harness.spec
        self.harness = bench.harness
        self.run = bench.loop.run

    def lose_worker(self) -> None:
        self.evaluate("return torch.softmax(x, -1)")
        os.kill(self.bench.harness._judge.process.pid, signal.SIGKILL)


def alive_below(folder: Path) -> list[str]:
    """Command lines of live processes that name a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            text = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if str(folder) in text:
            found.append(text)
    return found


def tree(pid: int) -> list[int]:
    from kernelevolve.evaluation.family import descendants

    return [pid, *descendants(pid)]


def gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return True
    return state in "ZX"


def until(condition, seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


@pytest.mark.slow
@pytest.mark.slow
@needs_sandbox
@without_sandbox
def test_nothing_survives_a_kill_of_the_main_process(tmp_path):
    main = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert main.stdout is not None
    judge = int(main.stdout.readline())
    main.stdout.close()
    assert until(lambda: len(tree(judge)) >= 12)
    everything = tree(judge)
    main.send_signal(signal.SIGKILL)
    main.wait()
    assert until(lambda: all(gone(pid) for pid in everything))
    assert not alive_below(tmp_path)
    left = [p.name for p in tmp_path.iterdir()]
    assert set(left) <= {"builds", "scratch"}


@pytest.mark.slow
@pytest.mark.needs_gxx
def test_the_compiler_and_the_users_own_module_are_baselines(bench, tmp_path):
    from kernelevolve.harnesses.local import LocalHarness
    from kernelevolve.testing.contracts.harness import BODIES, TASK, candidate

    harness = LocalHarness(bench.harness.spec, "cpp", 1, tmp_path, lambda ref: b"")
    own = candidate(BODIES["ok"]).text("model.py")
    job = Job(
        task=TASK,
        candidate=candidate("return torch.softmax(x, -1)"),
        target=bench.harness.spec,
        seed="1",
        baseline=own,
    )
    found = bench.loop.run(harness.evaluate(job))
    bench.loop.run(harness.close())
    assert found.ok, found.message
    assert set(found.timings[0].baselines_us) == {"eager", "compile", "user"}


@pytest.mark.slow
@pytest.mark.needs_gxx
def test_compiled_code_that_a_killed_compiler_left_is_made_anew(bench, tmp_path, monkeypatch):
    from kernelevolve.harnesses.local import LocalHarness
    from kernelevolve.testing.contracts.harness import TASK

    def baselines():
        harness = LocalHarness(bench.harness.spec, "cpp", 1, tmp_path, lambda ref: b"")
        found = bench.loop.run(harness.admit(TASK, bench.harness.spec, None))
        bench.loop.run(harness.close())
        return {name for measured in found.baselines_us.values() for name in measured}

    # Not below /tmp, of which every runner has its own.
    with TemporaryDirectory(dir="/var/tmp") as cache:  # noqa: S108
        monkeypatch.setenv("XDG_CACHE_HOME", cache)
        assert baselines() == {"eager", "compile"}
        kept = list(Path(cache).rglob("*.main.so"))
        assert kept
        for library in kept:
            library.write_bytes(b"")
        assert baselines() == {"eager", "compile"}
        assert all(library.stat().st_size for library in Path(cache).rglob("*.main.so"))
