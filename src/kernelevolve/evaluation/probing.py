"""Verifies one call of a session on inputs made for a purpose. In the judge."""

from contextlib import closing

from kernelevolve.core.detector import Detector
from kernelevolve.evaluation.blocks import Block, same
from kernelevolve.evaluation.layout import PAGE, Array
from kernelevolve.evaluation.probe import Probe
from kernelevolve.evaluation.processes import Failed
from kernelevolve.evaluation.session import CHANGED, Session
from kernelevolve.evaluation.verify import Broken

BEHIND = {True: (0, 1, 3, 6), False: (0, 1)}
"""Calls before the one on the probe, where outputs are compared cheaply and where not."""


def verify(session: Session, probe: Probe) -> None:
    """Through the same steps as any other verified call.

    Raises:
        Wrong, Broken: as for any verified call; the detector is the probe's.
        Failed: it raised.
    """
    if probe.may_refuse:
        _alone(session, probe)
        return
    slots = session.slots
    slot = slots.secret() if probe.base is None else slots.where(probe.base)
    if probe.base is not None and (slot, probe.base) not in session.called:
        session.once(slot)
    behind, last = session.random.choice(BEHIND[session.comparison.cheap]), (slot - 1) % len(slots)
    touched = {slot}
    session.runner.stop()
    slots.part(slot)[:] = probe.content
    if probe.before is not None:
        behind = 1
        touched.add(last)
        slots.part(last)[:] = probe.before
    try:
        _call(session, probe, slot, slots.part(slot), behind)
    finally:
        session.runner.stop()
        slots.fill(touched)


def _alone(session: Session, probe: Probe) -> None:
    """In memory of its own, in one more slot behind those that the module has."""
    slot = len(session.slots)
    with closing(Block(probe.inputs.nbytes + PAGE)) as block:
        memory = block.part(0, probe.content.nbytes)
        memory[:] = probe.content
        session.map_slots(block, probe.inputs, 1, keep=slot)
        refused = None
        try:
            _call(session, probe, slot, memory)
        except Failed as error:
            refused = error
        session.map_slots(block, probe.inputs, 0, keep=slot)
        if refused is not None:
            raise refused


def _call(session: Session, probe: Probe, slot: int, memory: Array, behind: int = 0) -> None:
    """Often in a window of several calls, as timed ones are: their length tells nothing."""
    session.probed = probe
    try:
        session.once(slot, behind=behind)
    finally:
        session.probed = None
    if session.prepared.mutates_inputs:
        if probe.inputs == session.prepared.inputs:
            left, tolerance = session.prepared.left, session.task.tolerance
            fault = left.touched(probe.content, memory)
            if probe.left.any:
                fault = probe.left.fault(0, probe.content, memory, tolerance)
            session.object_to(Broken(Detector.INPUTS, fault)) if fault else None
    elif not same(memory, probe.content):
        session.object_to(Broken(Detector.INPUTS, CHANGED))
