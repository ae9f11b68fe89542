"""The warm parent: imports torch once inside the sandbox and forks a runner per request.

It runs no tensor operation and keeps one thread, because a fork after an OpenMP region hangs.
Each runner is the child of an init of its own, in namespaces of its own where the kernel allows:
when that init ends, everything that the runner started ends with it.
"""

import argparse
import ctypes
import gc
import importlib
import os
import resource
import select
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from kernelevolve.core.job import Limits
from kernelevolve.evaluation.cgroup import enter, usage
from kernelevolve.evaluation.confine import confine
from kernelevolve.evaluation.wire import Channel, Closed, Malformed

NEW_USER, NEW_PID, NEW_MOUNTS, NEW_IPC = 0x10000000, 0x20000000, 0x00020000, 0x08000000
NEW_NAMESPACES = NEW_USER | NEW_PID | NEW_MOUNTS | NEW_IPC
"""Of a runner. A GPU's driver refuses processes that are numbered otherwise than it knows them."""
MS_RDONLY, MS_BIND, MS_REC, MS_PRIVATE, MS_REMOUNT, MS_MOVE = 1, 4096, 16384, 1 << 18, 32, 8192
MS_NOSUID, MS_NODEV, MS_NOEXEC, MNT_DETACH = 2, 4, 8, 2
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
LOOK_SECONDS = 0.1
WATCH_SECONDS = 0.25
READ_ONLY = MS_RDONLY | MS_NOSUID | MS_NODEV
ESTIMATING = {"reference": ("torch._dynamo",), "candidate": ()}
"""What fake tensors import at first use, for a second: here once, not in each task's runner."""
SCRATCH = "size=256m,nr_inodes=16k"
OPEN_FILES = 1024
LIBC = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Import, then serve fork requests until the judge is gone."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--role", choices=("candidate", "reference"), required=True)
    parser.add_argument("--preload", action="append", default=[])
    options = parser.parse_args()
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    channel = Channel(socket.socket(fileno=options.fd), takes_fds=True)
    _uncover_proc()
    with _ends_when_left(channel.sock):
        for name in (*options.preload, *ESTIMATING[options.role]):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()
    channel.send({"threads": len(os.listdir("/proc/self/task")), "isolated": _can_unshare()})  # noqa: PTH208
    with suppress(Closed, Malformed):
        while True:
            body, fds = channel.receive()
            _fork_init(channel, options.role, body, fds)
    _end_all()


@contextmanager
def _ends_when_left(sock: socket.socket) -> Iterator[None]:
    """Imports take seconds: meanwhile, a timer looks whether the judge is still there."""
    left = select.poll()
    left.register(sock, select.POLLRDHUP)

    def look(*_: object) -> None:
        if left.poll(0):
            _end_all()
            os._exit(0)

    before = signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, LOOK_SECONDS, LOOK_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _end_all() -> None:
    """The judge is gone: nothing else in this sandbox may go on."""
    own_namespace = Path("/proc/1/comm").read_text().strip() == "bwrap"
    if own_namespace and os.getpid() != 1:
        os.kill(-1, signal.SIGKILL)


def _uncover_proc() -> None:
    """Bubblewrap hides parts of /proc from root; then no namespace below may have one of its own.

    Only this process, which runs nobody's code, sees those parts: runners get a /proc of their
    own that cannot be written.
    """
    for name in ("sys", "sysrq-trigger", "irq", "bus"):
        LIBC.umount2(f"/proc/{name}".encode(), MNT_DETACH)


def _can_unshare() -> bool:
    pid = os.fork()
    if pid == 0:
        failed = LIBC.unshare(NEW_NAMESPACES)
        os._exit(1 if failed else 0)
    return os.waitpid(pid, 0)[1] == 0


def _fork_init(channel: Channel, role: str, body: dict[str, Any], fds: Sequence[int]) -> None:
    """Fork a starter, which unshares and forks the init, and ends.

    Where the init has no numbers of its own, for a GPU, the starter itself goes on as the init.
    """
    numbered = body["isolated"] and not body["device"]
    pid = os.fork()
    if pid == 0:
        channel.close()
        if body["isolated"]:
            _unshare(NEW_NAMESPACES if numbered else NEW_NAMESPACES & ~NEW_PID)
        if numbered and os.fork():
            os._exit(0)
        _init(role, body, fds)
    for fd in fds:
        os.close(fd)
    if numbered:
        os.waitpid(pid, 0)
    else:
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _unshare(flags: int) -> None:
    uid, gid = os.getuid(), os.getgid()
    if LIBC.unshare(flags):
        os._exit(70)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")


def _init(role: str, body: dict[str, Any], fds: Sequence[int]) -> NoReturn:
    """First process of the runner's tree: reports how the runner ended, and ends with it."""
    control, status, log, *doors = fds
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    report = Channel(socket.socket(fileno=status))
    try:
        enter(doors)
        for door in doors:
            os.close(door)
        builds = None
        if body["isolated"]:
            builds = _mount(body)
        if os.getpid() != 1:
            os.setsid()
            LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1)
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        report.send({"hello": True})
        child = os.fork()
        if child == 0:
            report.close()
            _runner(role, body, control, log)
        os.close(control)
        os.close(log)
        threading.Thread(target=_answer, args=(report, builds, body["hidden"]), daemon=True).start()
        report.send(_wait_for(child, watched=body["watched"], **body["limits"]))
    except (Closed, Malformed, OSError) as error:
        with suppress(Closed):
            report.send({"ended": 0, "failed": str(error)})
    os._exit(0)


def _answer(report: Channel, builds: int | None, hidden: str) -> None:
    """What the judge asks the init while the runner works."""
    with suppress(Closed, Malformed, OSError):
        while True:
            asked = report.receive().body
            if "shown" in asked:
                _show(builds, hidden, asked["shown"])
                report.send({"shown": True})
            else:
                report.send({"number": _next_number()})


def _next_number() -> int:
    """What the kernel gives the next thread of this namespace, which counts all that started."""
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
    return thread.native_id or 0


def _wait_for(
    child: int, *, watched: bool, processes: int, memory_bytes: int, **_: object
) -> dict[str, Any]:
    """How the runner ended. Where no control group bounds the tree, look at it now and then."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    while True:
        pid, status = os.waitpid(-1, os.WNOHANG if watched else 0)
        if pid == child:
            return {"ended": os.waitstatus_to_exitcode(status)}
        if pid == 0:
            signal.sigtimedwait({signal.SIGCHLD}, WATCH_SECONDS)
            if excess := _excess(processes, memory_bytes):
                os.kill(-1, signal.SIGKILL)
                return {"ended": -signal.SIGKILL, "limit": excess}


def _excess(processes: int, memory_bytes: int) -> str:
    """What this namespace uses too much of, in words; nothing where all is well."""
    if os.getpid() != 1:
        return ""
    found = [p for p in Path("/proc").iterdir() if p.name.isdigit() and p.name != "1"]
    count, resident = usage([int(p.name) for p in found])
    if count > processes:
        return f"{count} processes and threads; at most {processes} are allowed"
    if resident > memory_bytes and sum(map(_share, found)) > memory_bytes:
        return f"its processes took more than {memory_bytes >> 20} MB of memory together"
    return ""


def _share(process: Path) -> int:
    """Bytes of a process, shared pages counted in parts."""
    with suppress(OSError, StopIteration):
        lines = (process / "smaps_rollup").read_text().splitlines()
        return int(next(x for x in lines if x.startswith("Pss:")).split()[1]) << 10
    return 0


def _mount(body: dict[str, Any]) -> int | None:
    """Own /proc and /tmp, with Python where it lies there, and an empty folder over all builds.

    Returns:
        A descriptor of the builds that are hidden.
    """
    _do_mount("none", "/", None, MS_REC | MS_PRIVATE)
    hidden = body["hidden"]
    builds = os.open(hidden, os.O_PATH | os.O_DIRECTORY) if hidden else None
    hold = "/dev/shm"  # noqa: S108 - a tmpfs of this sandbox
    _do_mount("tmpfs", hold, "tmpfs", MS_NOSUID | MS_NODEV, SCRATCH)
    kept = {path: Path(hold, f"kept{n}") for n, path in enumerate(body["kept"])}
    for path, place in kept.items():
        place.mkdir()
        _do_mount(path, str(place), None, MS_BIND | MS_REC)
    if body["private_tmp"]:
        _do_mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, SCRATCH)  # noqa: S108
    for path, place in kept.items():
        Path(path).mkdir(parents=True, exist_ok=True)
        _do_mount(str(place), path, None, MS_MOVE)
        place.rmdir()
    if hidden:
        Path(hidden).mkdir(parents=True, exist_ok=True)
        _do_mount("tmpfs", hidden, "tmpfs", MS_NOSUID | MS_NODEV, SCRATCH)
    if os.getpid() == 1:
        _do_mount("proc", "/proc", "proc", READ_ONLY | MS_NOEXEC)
    return builds


def _show(builds: int | None, hidden: str, shown: str) -> None:
    """One of the hidden builds where it belongs; its runner has loaded nobody's code yet."""
    if builds is None:
        return
    source = f"/proc/self/fd/{builds}/{Path(shown).relative_to(hidden)}"
    Path(shown).mkdir(parents=True)
    _do_mount(source, shown, None, MS_BIND | MS_REC)
    _do_mount("none", hidden, None, MS_REMOUNT | MS_BIND | READ_ONLY)
    os.close(builds)


def _do_mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    made = LIBC.mount(
        source.encode(),
        target.encode(),
        kind.encode() if kind else None,
        flags,
        options.encode() or None,
    )
    if made:
        raise OSError(ctypes.get_errno(), f"mount {source} on {target}")


def _runner(role: str, body: dict[str, Any], control: int, log: int) -> NoReturn:
    """The process that loads and calls the module."""
    from kernelevolve.evaluation.reference import MAKERS

    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    os.chdir("/tmp")  # noqa: S108
    restrict(Limits.model_validate(body["limits"]), body["cpu_seconds"], space=body["space"])
    if os.getuid():
        _limit(resource.RLIMIT_NPROC, body["limits"]["processes"])
    confine(frozenset((0, 1, 2, control)), alone=bool(body["device"]))
    channel = Channel(socket.socket(fileno=control), takes_fds=True)
    MAKERS[role](channel, body["device"] or "cpu").serve()
    os._exit(0)


def restrict(limits: Limits, cpu_seconds: int, *, space: bool = True) -> None:
    """Resource limits of each process of a build or a runner; `space` bounds addresses too."""
    if space:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        _limit(resource.RLIMIT_AS, pages * resource.getpagesize() + limits.memory_bytes)
    _limit(resource.RLIMIT_FSIZE, limits.file_bytes)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_CPU, cpu_seconds)
    _limit(resource.RLIMIT_NOFILE, OPEN_FILES)
    _limit(resource.RLIMIT_MEMLOCK, 0)


def _limit(which: int, value: int) -> None:
    hard = resource.getrlimit(which)[1]
    bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(which, (bound, bound))


if __name__ == "__main__":
    main()
