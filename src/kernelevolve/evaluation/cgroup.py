"""A cap on the processes of all runners of a judge, where control groups can be made."""

import os
import signal
from contextlib import suppress
from pathlib import Path

ROOTS = (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup"))
PREFIX = "kernelevolve-"


class Group:
    """One folder below a `pids` controller; does nothing where there is none."""

    def __init__(self, processes: int) -> None:
        self.folder: Path | None = None
        for root in ROOTS:
            _sweep(root)
            folder = root / f"{PREFIX}{os.getpid()}"
            with suppress(OSError):
                folder.mkdir()
                (folder / "pids.max").write_text(str(processes))
                self.folder = folder
                return
            with suppress(OSError):
                folder.rmdir()

    def add(self, pid: int) -> None:
        """Everything that this process starts from now on counts."""
        if self.folder is not None:
            with suppress(OSError):
                (self.folder / "cgroup.procs").write_text(str(pid))

    def kill(self) -> None:
        """Kill every member."""
        if self.folder is None:
            return
        with suppress(OSError):
            for pid in (self.folder / "cgroup.procs").read_text().split():
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)

    def close(self) -> None:
        """Remove the folder once it is empty."""
        if self.folder is not None:
            with suppress(OSError):
                self.folder.rmdir()


def _sweep(root: Path) -> None:
    """Remove what judges left that are no more."""
    with suppress(OSError):
        for folder in root.glob(f"{PREFIX}*"):
            pid = folder.name.removeprefix(PREFIX)
            if pid.isdigit() and not Path(f"/proc/{pid}").exists():
                with suppress(OSError):
                    folder.rmdir()
