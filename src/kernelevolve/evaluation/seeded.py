"""Candidates that cannot take the reference's state, and draw their own under the same seed."""

from kernelevolve.evaluation.pool import Prepared

SHOWN = 12
FLAG = "state could not be loaded; both were constructed under one seed"


def differences(prepared: Prepared, own: object) -> str:
    """Why the reference's state does not fit, by name and shape."""
    entries = dict(prepared.state.tree["dict"])["state"]["dict"]
    theirs = {k: list(prepared.state.leaves[t["tensor"]].shape) for k, t in entries}
    mine = own if isinstance(own, dict) else {}
    differing = sorted(k for k in {*theirs, *mine} if theirs.get(k) != mine.get(k))
    shown = ", ".join(
        f"{k}: reference {theirs.get(k, 'has none')}, candidate {mine.get(k, 'has none')}"
        for k in differing[:SHOWN]
    )
    return f"the reference's state does not fit ModelNew: {shown}"


def unseen(fixed: list[str]) -> str:
    """Of parameters that no seed changes: nothing would show whether they are used."""
    return (
        f"ModelNew cannot take the reference's parameters, and whatever the seed, "
        f"{', '.join(fixed[:SHOWN])} would start as the same values: nothing would show whether "
        "they are used. Keep the reference's parameters; pack or fold them in prepare()"
    )
