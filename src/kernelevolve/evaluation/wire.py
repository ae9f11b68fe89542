"""Length-prefixed JSON messages over a Unix socket, with file descriptors beside them."""

import array
import json
import select
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

CAP = 32 << 20
MAX_FDS = 8
SHOWN = 200


class Closed(Exception):
    """The other side is gone."""


class Malformed(Exception):
    """The other side does not speak the protocol."""


class Expired(Exception):
    """No whole message arrived within the time limit."""


class Received(NamedTuple):
    """One message and the descriptors that came with it."""

    body: dict[str, Any]
    fds: list[int]


class Channel:
    """One end of a socket pair. Never unpickles; takes descriptors only where it is told to."""

    def __init__(self, sock: socket.socket, *, takes_fds: bool = False, cap: int = CAP) -> None:
        self.sock = sock
        self._takes_fds = takes_fds
        self._cap = cap

    def fileno(self) -> int:
        """For `select`."""
        return self.sock.fileno()

    def send(
        self, body: Mapping[str, Any], fds: Sequence[int] = (), timeout: float | None = None
    ) -> None:
        """Send one message.

        Raises:
            Closed: the other side is gone.
            Expired: it did not take the message within `timeout` seconds.
        """
        payload = json.dumps(body, separators=(",", ":")).encode()
        data = len(payload).to_bytes(4, "little") + payload
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            self.sock.settimeout(timeout)
            sent = self.sock.sendmsg([data], rights)
            if sent < len(data):
                self.sock.sendall(data[sent:])
        except TimeoutError as error:
            raise Expired from error
        except OSError as error:
            raise Closed(str(error)) from error

    def receive(self, timeout: float | None = None) -> Received:
        """The next message.

        Raises:
            Closed: the other side is gone.
            Expired: nothing whole came within `timeout` seconds.
            Malformed: it is not a JSON object or too long.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        fds: list[int] = []
        length = int.from_bytes(self._exactly(4, deadline, fds), "little")
        if length > self._cap:
            raise Malformed(f"a message of {length} bytes; at most {self._cap} are taken")
        try:
            body = _parsed(self._exactly(length, deadline, fds))
        except (ValueError, RecursionError) as error:
            raise Malformed(f"not JSON: {str(error)[:SHOWN]}") from error
        if not isinstance(body, dict):
            raise Malformed(f"not a JSON object but {type(body).__name__}")
        return Received(body, fds)

    def _exactly(self, count: int, deadline: float | None, fds: list[int]) -> bytes:
        data = bytearray()
        while len(data) < count:
            if deadline is not None:
                wait = max(0.0, deadline - time.monotonic())
                if not select.select([self.sock], [], [], wait)[0]:
                    raise Expired
            try:
                chunk = self._chunk(count - len(data), fds)
            except OSError as error:
                raise Closed(str(error)) from error
            if not chunk:
                raise Closed("end of file")
            data += chunk
        return bytes(data)

    def _chunk(self, count: int, fds: list[int]) -> bytes:
        if not self._takes_fds:
            return self.sock.recv(count)
        space = socket.CMSG_SPACE(MAX_FDS * array.array("i").itemsize)
        chunk, ancillary, _, _ = self.sock.recvmsg(count, space)
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.extend(array.array("i", data[: len(data) // 4 * 4]))
        return chunk

    def close(self) -> None:
        """Close this end."""
        self.sock.close()


def _parsed(payload: bytes) -> Any:
    """JSON; halves of surrogate pairs, which nothing else could write down, become `?`."""
    body = json.loads(payload)
    if b"\\ud" in payload.lower():
        body = json.loads(json.dumps(body, ensure_ascii=False).encode(errors="replace"))
    return body


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected stream sockets."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
