"""A candidate's own parameters and buffers, which its calls must leave alone. In the judge."""

from contextlib import closing
from dataclasses import dataclass, field

from kernelevolve.core.detector import Detector
from kernelevolve.evaluation import replies
from kernelevolve.evaluation.blocks import Block
from kernelevolve.evaluation.session import Session
from kernelevolve.evaluation.verify import Broken

MOST_BYTES = 1 << 18
"""Of all of them together; of larger ones a part is compared, and which is a secret."""


@dataclass
class Belongings:
    """Of one session that has not called anything yet: what lies in them."""

    session: Session
    _first: int = 0
    _before: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if Detector.STATE not in self.session.without:
            self._first = self.session.random.getrandbits(30)
            self._before = self._read()

    def check(self, calls: str) -> None:
        """They are what they were.

        Raises:
            Broken: one is not.
        """
        after = self._read() if self._before else {}
        for name, values in self._before.items():
            if after.get(name) != values:
                text = f"{calls} changed {name[:200]!r}; the reference leaves it as it is"
                raise Broken(Detector.STATE, text)

    def _read(self) -> dict[str, bytes]:
        """By the reference's name where there is one."""
        with closing(Block(MOST_BYTES)) as block:
            session, found, end = self.session, dict[str, bytes](), 0
            reply = session.ask("belongings", [block.fd], nbytes=block.nbytes, first=self._first)
            session.runner.stop()
            for name, size in replies.sizes(reply, block.nbytes).items():
                found[name] = block.bytes[end : end + size].tobytes()
                end += size
            return found
