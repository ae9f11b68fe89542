"""Whatever a runner sends, the judge ends with a verdict: no other exception, no wrong OK.

`pytest tests/evaluation/test_hostile.py --hypothesis-profile=many` sends 10,000 messages.
"""

import json
import os
import select
import socket
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelevolve.core.evaluation import Evaluation, Stage, Status
from kernelevolve.evaluation import races, replies, seeded
from kernelevolve.evaluation.census import Watch
from kernelevolve.evaluation.processes import Late, Runner
from kernelevolve.evaluation.session import Session
from kernelevolve.evaluation.verdict import Verdict, judged
from kernelevolve.evaluation.wire import CAP, Channel, pair

TASK = """
class Model(nn.Module):
    def forward(self, x):
        return x * 2, x > 0

def get_inputs():
    return [torch.randn(6, 5)]
"""
SECONDS = 0.01


class Still:
    """No processes at all."""

    halted = False

    def halt(self):
        return time.perf_counter()

    def resume(self):
        pass

    def pids(self):
        return []

    def cpu(self):
        return 0.0

    def scheduled(self, pid):
        return 0.0, 0.0


class Fake(Runner):
    """The judge's side of a runner that is only a socket."""

    def __init__(self):
        ours, self.theirs = pair()
        status, self.init = pair()
        self._channel, self._status = Channel(ours, cap=4 << 20), Channel(status, cap=4096)
        self._log, self.log_bytes = os.memfd_create("log"), 1000
        self._poll = select.poll()
        for channel in (self._channel, self._status):
            self._poll.register(channel, select.POLLIN)
        self.tree = Still()
        self.driver, self.peeks, self.closed = 1, True, False
        self.memory_seen, self.cores = True, frozenset()

    def read(self, extents, block):
        return self.memory_seen

    def close(self):
        self.closed = True

    def end(self):
        for sock in (self._channel, self._status, self.theirs, self.init):
            sock.close()
        os.close(self._log)

    def says(self, *messages):
        for message in messages:
            self.theirs.sendall(message if isinstance(message, bytes) else framed(message))


@contextmanager
def fake(*messages, last=True):
    """`last`: it sends nothing more and its process has ended."""
    runner = Fake()
    try:
        runner.says(*messages)
        if last:
            runner.theirs.shutdown(socket.SHUT_WR)
            runner.init.close()
        yield runner
    finally:
        runner.end()


def framed(body) -> bytes:
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    return len(payload).to_bytes(4, "little") + payload


numbers = st.integers() | st.floats() | st.sampled_from([2**63, 2**64, 10**400, -1, 1e308])
leaves = st.none() | st.booleans() | numbers | st.text(st.characters(), max_size=8)
anything = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=12,
)
nested = st.integers(1, 100_000).map(lambda depth: framed(b"[" * depth + b"]" * depth))
deep = st.integers(1, 40).map(lambda depth: json.loads('{"list":[' * depth + "]}" * depth))
raw = st.one_of(
    st.binary(max_size=64),
    st.binary(max_size=64).map(framed),
    anything.map(framed),
    nested,
    st.sampled_from([b"\xff" * 4, framed({})[:-1], (CAP + 1).to_bytes(4, "little"), b""]),
    st.sampled_from(
        [framed(b"1" * 5000), framed(b'{"a":NaN}'), framed(b'{"error":{"text":"\\ud800"}}')]
    ),
)


@st.composite
def bent(draw, body):
    """The right answer with something else at one place."""
    found = json.loads(json.dumps(body))
    node, path = found, draw(st.integers(1, 4))
    for _ in range(path):
        keys = list(node) if isinstance(node, dict) else range(len(node))
        if not keys:
            break
        key = draw(st.sampled_from(list(keys)))
        if not isinstance(node[key], dict | list) or _ == path - 1:
            if isinstance(node, dict) and draw(st.booleans()):
                del node[key]
            else:
                node[key] = draw(anything | deep)
            break
        node = node[key]
    return found


def ends(action) -> Verdict | None:
    """The verdict, if there is one; it can be written down."""
    try:
        with judged(lambda: ""):
            action()
    except Verdict as verdict:
        written = Evaluation(
            status=verdict.status,
            stage=Stage.VERIFY,
            message=str(verdict),
            detector=verdict.detector,
        )
        assert written.model_dump_json()
        return verdict
    return None


@pytest.fixture
def prepared(suite_of):
    return suite_of(TASK)


def honest_outcome(one):
    plain = one.plain
    return plain.dump() | {
        "strides": [list(leaf.stride) for leaf in plain.leaves],
        "types": ["Tensor"] * 2,
        "devices": ["cpu"] * 2,
        "pointers": [4096, 8192],
        "aliases": [False, False],
    }


@given(message=raw)
def test_arbitrary_bytes_are_no_answer(message):
    with fake(message) as runner:
        ends(lambda: runner.ask("state", SECONDS))
    with fake(message) as runner:
        ends(lambda: runner.window(SECONDS, still=True, start=0, count=1))
    with fake(message) as runner:
        assert ends(lambda: replies.loaded(runner.ask("load", SECONDS)))


@given(first=anything, second=anything, said=anything)
def test_a_state_of_any_kind_is_compared_or_refused(first, second, said):
    def compare(runner):
        Watch(runner, SECONDS).notes("calls")

    with fake({"state": first}, {"state": second}) as runner:
        ends(lambda: compare(runner))
    with fake({"said": said, "missed": first}) as runner:
        ends(lambda: races.examine(runner, "default", [], "", SECONDS))
    with fake({"error": said}) as runner:
        assert ends(lambda: runner.ask("calls", SECONDS))


def test_a_bent_answer_to_a_load_is_refused_or_says_how_the_state_differs(prepared):
    one = prepared.bench.prepared

    @given(reply=bent({"loading": "seeded", "setup": 0.1, "own": {"weight": [3, 4]}}))
    def attack(reply):
        with fake(reply) as runner:
            ends(lambda: seeded.differences(one, replies.loaded(runner.ask("load", 1)).own))

    attack()


def test_no_description_of_outputs_makes_poison_right(prepared):
    bench = prepared.bench
    one = bench.prepared
    good = honest_outcome(one)

    @given(
        reply=bent(good) | anything,
        took=st.just(1e-6) | anything,
        words=st.lists(st.sampled_from([1, 2, 4096, 8192, 2**64 - 1]), min_size=5, max_size=5),
        extra=st.booleans(),
        seen=st.booleans(),
        known=st.booleans(),
    )
    def attack(reply, took, words, extra, seen, known):
        answers = [{}, {"took": took}, reply, *([reply] if extra else [])]
        with fake(*answers) as runner:
            runner.memory_seen = seen
            session = Session(runner, bench.task, one, Random(1), SECONDS, *one.blocks())
            try:
                if known:
                    with suppress(Exception):
                        session.outputs.learn(good)
                session.outputs.mailbox.clear = lambda: noted(session, words)
                session.outbox.bytes[:] = 0xFF
                assert ends(lambda: session.once(0, twice=extra))
            finally:
                session.close()

    attack()


def noted(session, words):
    box = session.outputs.mailbox
    box.bytes[: 8 * len(words)].view(np.uint64)[:] = words


def test_the_right_description_of_poison_is_wrong_for_its_values(prepared):
    bench = prepared.bench
    good = honest_outcome(bench.prepared)
    with fake({}, {"took": 0.0}, good) as runner:
        runner.peeks = False
        blocks = bench.prepared.blocks()
        session = Session(runner, bench.task, bench.prepared, Random(1), SECONDS, *blocks)
        found = ends(lambda: session.once(0))
        session.close()
    assert found is not None
    assert found.status is Status.WRONG


def test_half_a_message_and_a_full_channel_are_too_late():
    with fake(framed({"a": 1})[:-1], last=False) as runner:
        with pytest.raises(Late):
            runner.ask("state", SECONDS)
        assert runner.closed
    with fake(last=False) as runner:
        with pytest.raises(Late):
            runner.ask("load", SECONDS, names="x" * (8 << 20))
        assert runner.closed


def test_descriptors_that_come_with_an_answer_are_not_taken():
    before = len(list(Path("/proc/self/fd").iterdir()))
    with fake(last=False) as runner:
        spare = os.open("/dev/null", os.O_RDONLY)
        Channel(runner.theirs).send({"state": {}}, [spare] * 200)
        os.close(spare)
        assert runner.ask("state", 1) == {"state": {}}
    assert len(list(Path("/proc/self/fd").iterdir())) <= before
