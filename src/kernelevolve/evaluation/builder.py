"""Runs untrusted build commands: `python -m kernelevolve.evaluation.builder --fd N`.

One supervisor for all builds of a harness, so that the main process may start builds from any
thread and nothing outlives it: at end of file every command's tree is killed.
"""

import argparse
import os
import selectors
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kernelevolve.core.job import Limits
from kernelevolve.evaluation import sandbox
from kernelevolve.evaluation.cgroup import Group, enter, usage
from kernelevolve.evaluation.family import descendants
from kernelevolve.evaluation.sandbox import Walls
from kernelevolve.evaluation.warm import restrict
from kernelevolve.evaluation.wire import Channel, Closed, Malformed

TIMED_OUT, EXCESSIVE = 124, 125
FOLDER_BYTES, FOLDER_FILES = 1 << 30, 20_000
BOUNDED = 'ulimit -u "$0" 2>/dev/null || ulimit -p "$0" 2>/dev/null; exec "$@"'
"""Counted inside the sandbox, where no other process of the same user counts."""
HEAD, TAIL = 200_000, 100_000
TICK = 0.05


@dataclass
class Command:
    """One build command under way."""

    number: int
    process: subprocess.Popen[bytes]
    output: int
    deadline: float
    group: Group
    limits: Limits
    folder: Path
    refused: str = ""
    """Why it was killed, in words."""
    code: int = 0


class Builder:
    """Starts commands, watches their clocks, reports how they ended."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.running: list[Command] = []
        self.selector = selectors.DefaultSelector()
        self.selector.register(channel, selectors.EVENT_READ)

    def serve(self) -> None:
        """Until the harness is gone."""
        with suppress(Closed, Malformed):
            while True:
                events = self.selector.select(TICK if self.running else None)
                for key, _ in events:
                    if key.fileobj is self.channel:
                        self._start(self.channel.receive().body)
                self._look()
        for command in self.running:
            _kill(command)

    def _start(self, body: dict[str, Any]) -> None:
        limits = Limits.model_validate(body["limits"])
        folder = Path(body["folder"])
        output = os.memfd_create("output")
        group = Group(limits.processes, limits.memory_bytes, f"-{body['id']}")
        command = list(body["command"])
        if os.getuid():
            command = ["sh", "-c", BOUNDED, str(limits.processes), *command]

        def begin() -> None:
            enter(group.doors)
            restrict(limits, int(limits.build_seconds * 4) + 1)

        with sandbox.filtered() as fds:
            walls = Walls(writable=[folder], filter_fd=next(iter(fds), None))
            process = subprocess.Popen(  # noqa: S603
                sandbox.wrap(command, walls, folder),
                cwd=folder,
                env=sandbox.environment(body["environment"]),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=begin,
                pass_fds=fds,
            )
        deadline = time.monotonic() + limits.build_seconds
        started = Command(body["id"], process, output, deadline, group, limits, folder)
        self.running.append(started)
        handle = os.pidfd_open(process.pid)
        self.selector.register(handle, selectors.EVENT_READ)

    def _look(self) -> None:
        for command in list(self.running):
            code = command.process.poll()
            if not command.refused:
                _judge(command)
            if code is not None:
                self._report(command, command.code if command.refused else code)

    def _report(self, command: Command, code: int) -> None:
        self.running.remove(command)
        for key in list(self.selector.get_map().values()):
            if isinstance(key.fileobj, int) and _ended(key.fileobj):
                self.selector.unregister(key.fileobj)
                os.close(key.fileobj)
        _kill(command)
        command.group.close()
        if code == EXCESSIVE:
            shutil.rmtree(command.folder, ignore_errors=True)
        said = _head_and_tail(command.output)
        os.close(command.output)
        said = f"{command.refused}\n{said}" if command.refused else said
        self.channel.send({"id": command.number, "code": code, "output": said})


def _judge(command: Command) -> None:
    """Kill it where it uses too much of anything that no limit of the kernel bounds."""
    if time.monotonic() > command.deadline:
        command.refused = "the time limit was reached"
        command.code = TIMED_OUT
    elif excess := _excess(command):
        command.refused, command.code = excess, EXCESSIVE
    if command.refused:
        _kill(command)


def _excess(command: Command) -> str:
    files, size = _contents(command.folder)
    if size > FOLDER_BYTES or files > FOLDER_FILES:
        return (
            f"the build wrote {files} files of {size >> 20} MB; {FOLDER_FILES} files "
            f"and {FOLDER_BYTES >> 20} MB are allowed"
        )
    if command.group.bounds >= {"pids", "memory"}:
        return ""
    pids = descendants(command.process.pid)
    threads, resident = usage(pids)
    if threads > command.limits.processes:
        return f"the build ran {threads} processes and threads; {command.limits.processes} may run"
    if resident > command.limits.memory_bytes:
        return f"the build took more than {command.limits.memory_bytes >> 20} MB of memory"
    return ""


def _contents(folder: Path) -> tuple[int, int]:
    """Files below it and the bytes that they take."""
    files, size = 0, 0
    for parent, folders, names in os.walk(folder):
        for name in (*folders, *names):
            with suppress(OSError):
                files += 1
                size += Path(parent, name).lstat().st_blocks * 512
    return files, size


def _ended(handle: int) -> bool:
    try:
        signal.pidfd_send_signal(handle, 0)
    except ProcessLookupError:
        return True
    return False


def _kill(command: Command) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(command.process.pid, signal.SIGKILL)


def _head_and_tail(fd: int) -> str:
    size = os.fstat(fd).st_size
    if size <= HEAD + TAIL:
        return os.pread(fd, size, 0).decode(errors="replace")
    head, end = os.pread(fd, HEAD, 0), os.pread(fd, TAIL, size - TAIL)
    return head.decode(errors="replace") + "\n…\n" + end.decode(errors="replace")


def main() -> None:
    """Serve on the descriptor given."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int, required=True)
    Builder(Channel(socket.socket(fileno=parser.parse_args().fd))).serve()


if __name__ == "__main__":
    main()
