"""The judge's hold on a warm parent: start it in its sandbox, have it fork runners, end it."""

import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from kernelevolve.core.job import Limits
from kernelevolve.evaluation import sandbox
from kernelevolve.evaluation.device import Device
from kernelevolve.evaluation.device_runner import DeviceRunner
from kernelevolve.evaluation.processes import START_SECONDS, Lost, Runner, tail
from kernelevolve.evaluation.sandbox import Walls
from kernelevolve.evaluation.wire import Channel, Closed, Expired, Malformed, pair

END_SECONDS = 10.0


class WarmParent:
    """A process with torch imported, in its sandbox, from which runners are forked."""

    def __init__(
        self,
        role: str,
        walls: Walls,
        environment: Mapping[str, str],
        preload: Sequence[str],
        device: Device | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        ours, theirs = pair()
        self._device = device
        self._looked_at = bool(prefix)
        """Whether a tool looks on, which its processes reach through the temporary folder."""
        preloads = [f"--preload={name}" for name in preload]
        command = [sys.executable, "-P", "-m", "kernelevolve.evaluation.warm"]
        command += [f"--fd={theirs.fileno()}", f"--role={role}", *preloads]
        self._log = os.memfd_create("warm")
        self._process = subprocess.Popen(  # noqa: S603
            sandbox.wrap([*prefix, *command], walls),
            env=sandbox.environment(environment),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        self._channel = Channel(ours)
        self._ready: dict[str, Any] | None = None

    def ready(self) -> dict[str, Any]:
        """Wait until it has imported everything."""
        if self._ready is None:
            try:
                self._ready = self._channel.receive(START_SECONDS).body
            except (Closed, Expired, Malformed) as error:
                said = tail(self._log)
                raise Lost(f"a warm parent did not start: {error or 'too slow'}\n{said}") from error
        return self._ready

    def said(self, since: int = 0) -> tuple[str, int]:
        """What it has printed from some byte on, and up to which."""
        end = os.fstat(self._log).st_size
        return os.pread(self._log, end - since, since).decode(errors="replace"), end

    @property
    def isolated(self) -> bool:
        """Whether runners get namespaces of their own."""
        return bool(self.ready()["isolated"])

    def fork(
        self,
        limits: Limits,
        hidden: str = "",
        cpu: int = 3600,
        doors: Sequence[int] = (),
        *,
        watched: bool = False,
        space: bool = True,
    ) -> Runner:
        """A new runner, which sees nothing of the folder `hidden` before it is shown a part.

        `doors` are of control groups, which it enters first; `watched` where none bounds what it
        uses: its init looks then. Without `space`, its addresses are not bounded: sanitizers
        reserve terabytes of them.
        """
        body = {
            "isolated": self.isolated,
            "limits": limits.model_dump(),
            "hidden": hidden,
            "private_tmp": sandbox.state() == "bubblewrap" and not self._looked_at,
            "kept": sandbox.python_in_tmp(),
            "cpu_seconds": cpu,
            "watched": watched,
            "space": space and self._device is None,
            "device": "cuda" if self._device else "",
        }
        control, theirs = pair()
        status, init = pair()
        log = os.memfd_create("log")
        status.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        try:
            self._channel.send(body, [theirs.fileno(), init.fileno(), log, *doors])
        except Closed as error:
            raise Lost("a warm parent died") from error
        finally:
            theirs.close()
            init.close()
        if self._device is not None:
            return DeviceRunner(control, status, log, isolated=False, device=self._device)
        return Runner(control, status, log, isolated=self.isolated)

    def leave(self) -> None:
        """Tell it to end with every runner that it forked."""
        with suppress(OSError):
            self._channel.sock.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        """The same, and wait until it has; another thread may still be waiting for it."""
        self.leave()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
