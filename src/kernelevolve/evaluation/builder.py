"""Runs untrusted build commands: `python -m kernelevolve.evaluation.builder --fd N`.

One supervisor for all builds of a harness, so that the main process may start builds from any
thread and nothing outlives it: at end of file every command's tree is killed.
"""

import argparse
import os
import selectors
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
from kernelevolve.evaluation.sandbox import Walls
from kernelevolve.evaluation.warm import restrict
from kernelevolve.evaluation.wire import Channel, Closed, Malformed

TIMED_OUT = 124
HEAD, TAIL = 200_000, 100_000
TICK = 0.05


@dataclass
class Command:
    """One build command under way."""

    number: int
    process: subprocess.Popen[bytes]
    output: int
    deadline: float
    late: bool = False


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
        wrapped = sandbox.wrap(body["command"], Walls(writable=[folder]), folder)
        process = subprocess.Popen(  # noqa: S603
            wrapped,
            cwd=folder,
            env=sandbox.environment(body["environment"]),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=lambda: restrict(limits, int(limits.build_seconds * 4) + 1),
        )
        deadline = time.monotonic() + limits.build_seconds
        self.running.append(Command(body["id"], process, output, deadline))
        handle = os.pidfd_open(process.pid)
        self.selector.register(handle, selectors.EVENT_READ)

    def _look(self) -> None:
        for command in list(self.running):
            if time.monotonic() > command.deadline and not command.late:
                command.late = True
                _kill(command)
            code = command.process.poll()
            if code is not None:
                self._report(command, TIMED_OUT if command.late else code)

    def _report(self, command: Command, code: int) -> None:
        self.running.remove(command)
        for key in list(self.selector.get_map().values()):
            if isinstance(key.fileobj, int) and _ended(key.fileobj):
                self.selector.unregister(key.fileobj)
                os.close(key.fileobj)
        _kill(command)
        said = _head_and_tail(command.output)
        os.close(command.output)
        self.channel.send({"id": command.number, "code": code, "output": said})


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
