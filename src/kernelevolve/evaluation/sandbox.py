"""What builds and runners are allowed: bubblewrap's arguments, or the lack of it, in words."""

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kernelevolve.evaluation import confine

SYSTEM = ("/usr", "/bin", "/lib", "/lib64", "/lib32", "/sbin", "/opt")
MACHINE = ("/sys/devices/system/cpu", "/sys/devices/system/node", "/sys/kernel/mm")
ETC = ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "localtime")
NAMESPACES = ("--unshare-user", "--unshare-ipc", "--unshare-net", "--unshare-uts")
"""All but that of processes' numbers."""
SCRATCH_BYTES = 1 << 30
PASSED = ("LANG", "LC_ALL", "PATH", "CC", "CXX", "XDG_CACHE_HOME")


@dataclass(frozen=True)
class Walls:
    """What one sandbox sees of the machine."""

    readable: Sequence[Path] = ()
    """Besides the system and Python itself."""
    writable: Sequence[Path] = ()
    everything: bool = False
    """The whole root, read-only: for the task's own code, never for a candidate's."""
    ends_itself: bool = False
    """The command ends with its socket: killed while it is set up, bubblewrap leaves a child."""
    filter_fd: int | None = None
    """The filter of system calls, for commands that do not confine themselves."""
    devices: Sequence[Path] = ()
    """Device files of a GPU, whose driver also wants to know processes by their own numbers."""


@functools.cache
def state() -> Literal["bubblewrap", "none"]:
    """Whether bubblewrap works here."""
    if shutil.which("bwrap") is None:
        return "none"
    probe = ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "--dev", "/dev", "true"]
    done = subprocess.run(probe, capture_output=True, check=False)  # noqa: S603
    return "bubblewrap" if done.returncode == 0 else "none"


def sandbox_state() -> str:
    """One line for `doctor`: what protects this machine from candidates."""
    if state() == "bubblewrap":
        return "bubblewrap: no network, read-only system, own processes, private scratch"
    return "none: install bubblewrap (apt-get install bubblewrap) and allow user namespaces"


def remark() -> tuple[str, ...]:
    """What every evaluation must say where the sandbox is missing."""
    if state() == "bubblewrap":
        return ()
    return ("not sandboxed: bubblewrap is missing or not permitted on this machine",)


def wrap(command: Sequence[str], walls: Walls, folder: Path = Path("/tmp")) -> list[str]:  # noqa: S108
    """The command inside its walls; as it is where there is no bubblewrap."""
    if state() == "none":
        return list(command)
    binds = ["--ro-bind", "/", "/"] if walls.everything else _minimal()
    dies = [] if walls.ends_itself else ["--die-with-parent"]
    apart = NAMESPACES if walls.devices else ("--unshare-all",)
    arguments = ["bwrap", *apart, *dies, "--new-session", *binds]
    arguments += ["--dev", "/dev", "--proc", "/proc"]
    for device in walls.devices:
        arguments += ["--dev-bind", str(device), str(device)]
    arguments += ["--ro-bind", "/sys", "/sys"] if walls.devices else []
    for scratch in ("/tmp", "/dev/shm"):  # noqa: S108
        arguments += ["--size", str(SCRATCH_BYTES), "--tmpfs", scratch]
    for path in (*map(Path, python_in_tmp()), *walls.readable):
        arguments += ["--ro-bind", str(path), str(path)]
    for path in walls.writable:
        arguments += ["--bind", str(path), str(path)]
    arguments += ["--remount-ro", "/dev", "--remount-ro", "/"]
    if walls.filter_fd is not None:
        arguments += ["--cap-drop", "ALL", "--seccomp", str(walls.filter_fd)]
    return [*arguments, "--chdir", str(folder), "--", *command]


@contextmanager
def filtered() -> Iterator[tuple[int, ...]]:
    """The filter of system calls as a file to pass on; nothing where it cannot be used."""
    program = confine.program()
    if state() == "none" or not program:
        yield ()
        return
    fd = os.memfd_create("filter")
    try:
        os.write(fd, program)
        os.lseek(fd, 0, os.SEEK_SET)
        yield (fd,)
    finally:
        os.close(fd)


def _minimal() -> list[str]:
    arguments: list[str] = []
    for path in (*SYSTEM, *MACHINE, *(f"/etc/{name}" for name in ETC)):
        arguments += ["--ro-bind-try", path, path]
    for folder in _python():
        arguments += ["--ro-bind", folder, folder]
    return arguments


@functools.cache
def _python() -> tuple[str, ...]:
    """Folders of this Python, its packages and this package."""
    own = str(Path(__file__).resolve().parents[1])
    found = [sys.prefix, sys.base_prefix, str(Path(sys.executable).resolve().parents[1])]
    found += [p for p in sys.path if p.endswith("-packages") and Path(p).is_dir()]
    covered = ("/usr", "/opt", "/lib")
    outside = dict.fromkeys(p for p in [*found, own] if not p.startswith(covered))
    return tuple(outside)


def python_in_tmp() -> tuple[str, ...]:
    """Those of Python's folders that a private /tmp would hide."""
    return tuple(p for p in _python() if p.startswith("/tmp/"))  # noqa: S108


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """A scrubbed environment: what a toolchain needs, and what is given."""
    kept = {k: os.environ[k] for k in PASSED if k in os.environ}  # noqa: TID251
    paths = [p for p in sys.path if p.endswith("/src")]
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        **kept,
        "HOME": "/tmp",  # noqa: S108
        "USER": "candidate",
        "TMPDIR": "/tmp",  # noqa: S108
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
        "PYTHONPATH": ":".join(paths),
        **extra,
    }


def home() -> Path:
    """The user's, for our own processes, which use the same caches as this one."""
    return Path.home()
