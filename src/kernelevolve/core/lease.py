"""Who writes a run: `pid@host/start time/random`, so that a dead writer is recognised."""

import os
import platform
import secrets
from pathlib import Path

from kernelevolve.core.errors import LeaseHeld, StoreError
from kernelevolve.core.record import Record

HEARTBEAT_SECONDS = 60.0
"""A writer shows at least this often that it lives."""
SILENCE_SECONDS = 300.0
"""A writer on another machine that was silent for longer is taken for dead."""


class Lease(Record):
    """One writer of one run."""

    pid: int
    """Its process."""
    host: str
    """Its machine."""
    started: str
    """The process's start time as the kernel counts it, because process numbers are reused."""
    nonce: str
    """Tells two writers in one process apart."""

    @classmethod
    def mine(cls) -> "Lease":
        """A new lease for the calling process."""
        return cls(
            pid=os.getpid(),
            host=platform.node(),
            started=_start_time(os.getpid()) or "",
            nonce=secrets.token_hex(4),
        )

    @classmethod
    def parse(cls, token: str) -> "Lease":
        """Read what `str` wrote.

        Raises:
            StoreError: the text has another form.
        """
        pid, _, rest = token.partition("@")
        host, *last = rest.rsplit("/", 2)
        if not pid.isdigit() or len(last) != 2:
            raise StoreError(f"lease {token!r}: expected pid@host/start time/random")
        return cls(pid=int(pid), host=host, started=last[0], nonce=last[1])

    def __str__(self) -> str:
        return f"{self.pid}@{self.host}/{self.started}/{self.nonce}"

    def alive(self, silent_seconds: float) -> bool:
        """Whether the holder may still write, given how long it has been silent."""
        if self.host != platform.node():
            return silent_seconds < SILENCE_SECONDS
        if not Path("/proc/self/stat").exists():
            return _answers(self.pid)
        return _start_time(self.pid) == self.started


def check_free(run: str, holder: str | None, lease: str, silent_seconds: float) -> None:
    """Pass if `lease` may write: it holds the run, nobody does, or the holder is dead.

    Raises:
        LeaseHeld: another live process writes the run.
    """
    if holder in (None, lease):
        return
    other = Lease.parse(str(holder))
    if other.alive(silent_seconds):
        raise LeaseHeld(
            f"run {run!r} is being written by process {other.pid} on {other.host}: "
            f"wait until it ends, or stop it with `kill -INT {other.pid}`"
        )


def _start_time(pid: int) -> str | None:
    """Clock ticks since boot, or None for a process that is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    state, start = fields[0], fields[19]
    return None if state in "ZX" else start


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
