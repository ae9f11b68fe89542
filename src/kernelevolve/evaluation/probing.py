"""Verifies one call of a session on inputs made for a purpose. In the judge."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from kernelevolve.core.detector import Detector
from kernelevolve.evaluation.blocks import same
from kernelevolve.evaluation.calls import CHANGED
from kernelevolve.evaluation.layout import PAGE, Array
from kernelevolve.evaluation.probe import Probe
from kernelevolve.evaluation.processes import Failed
from kernelevolve.evaluation.renewal import SECOND
from kernelevolve.evaluation.session import Session
from kernelevolve.evaluation.verify import Broken, Wrong

BEHIND = {True: (0, 1, 3, 6), False: (0, 1)}
"""Calls before the one on the probe, where outputs are compared cheaply and where not."""


@contextmanager
def parameters(session: Session, probe: Probe, load: Callable[[int], object]) -> Iterator[None]:
    """The probe's parameters instead of the module's own, or a second module that has them.

    Args:
        session: of the module.
        probe: may have parameters of its own.
        load: makes a new module with the state in a descriptor.

    Raises:
        Wrong: the first module is wrong since there was a second one.
    """
    if probe.state_fd is None:
        yield
        return
    if probe.plan.name != SECOND:
        _renew(session, probe.state_fd, load)
        yield
        _renew(session, session.prepared.state_fd, load)
        return
    session.ask("second", [probe.state_fd], **session.prepared.loading())
    session.attach()
    yield
    session.ask("first")
    try:
        session.once(session.slots.secret())
    except Wrong as error:
        text = f"the first module, called after {probe.plan.what}: {error}; {probe.plan.advice}"
        raise Wrong(probe.plan.detector, text) from error


def _renew(session: Session, state_fd: int, load: Callable[[int], object]) -> None:
    """In place; a module that has put its parameters away is loaded anew."""
    state = session.prepared.state.dump()
    if not session.ask("renew", [state_fd], state=state).get("renewed"):
        load(state_fd)
        session.attach()


def verify(session: Session, probe: Probe) -> None:
    """Through the same steps as any other verified call.

    Raises:
        Wrong, Broken: as for any verified call; the detector is the probe's.
        Failed: it raised.
    """
    if probe.may_refuse or probe.before:
        _alone(session, probe)
        return
    slots = session.slots
    slot = slots.secret() if probe.base is None else slots.where(probe.base)
    if probe.base is not None and (slot, probe.base) not in session.called:
        session.once(slot)
    behind = session.random.choice(BEHIND[session.comparison.cheap])
    session.runner.stop()
    slots.put(slot, probe.content)
    try:
        _call(session, probe, slot, lambda: slots.seen(slot), behind)
    finally:
        session.runner.stop()
        slots.fill({slot})


def _alone(session: Session, probe: Probe) -> None:
    """In memory of its own, in more slots behind those that the module has."""
    kept, contents, nbytes = (
        len(session.slots),
        (*probe.before, probe.content),
        probe.content.nbytes,
    )
    last = len(contents) - 1
    with closing(session.prepared.place.room(nbytes * len(contents) + PAGE)) as block:
        for number, content in enumerate(contents):
            block.put(number, content)
        session.map_slots(block, probe.inputs, len(contents), keep=kept)
        refused = None
        try:
            _call(session, probe, kept + last, lambda: block.seen(last, nbytes), last)
        except Failed as error:
            refused = error
        session.map_slots(block, probe.inputs, 0, keep=kept)
        if refused is not None:
            raise refused


def _call(
    session: Session, probe: Probe, slot: int, look: Callable[[], Array], behind: int = 0
) -> None:
    """Often in a window of several calls, as timed ones are: their length tells nothing."""
    session.probed = probe
    try:
        session.once(slot, behind=behind)
    finally:
        session.probed = None
    memory = look()
    if session.prepared.mutates_inputs:
        if probe.inputs == session.prepared.inputs:
            left, tolerance = session.prepared.left, session.task.tolerance
            fault = left.touched(probe.content, memory)
            if probe.left.any:
                fault = probe.left.fault(0, probe.content, memory, tolerance)
            session.object_to(Broken(Detector.INPUTS, fault)) if fault else None
    elif not same(memory, probe.content):
        session.object_to(Broken(Detector.INPUTS, CHANGED))
