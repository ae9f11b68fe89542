"""Skips, in one place, what this machine cannot run; the reason says what to install.

Long tests come first in each test process, so that none of them is what the others wait for.
"""

import itertools
import shutil

import pytest
from hypothesis import settings

from kernelevolve.evaluation import sandbox

settings.register_profile("usual", deadline=None)
settings.register_profile("many", max_examples=2_500, deadline=None)
settings.load_profile("usual")


def pytest_collection_modifyitems(config, items):
    missing = {}
    if shutil.which("g++") is None:
        missing["needs_gxx"] = "g++ is missing: apt-get install g++"
    if sandbox.state() == "none":
        missing["needs_sandbox"] = "bubblewrap is missing or not permitted here"
    for item in items:
        for mark, reason in missing.items():
            if mark in item.keywords:
                item.add_marker(pytest.mark.skip(reason=reason))
    processes = getattr(config, "workerinput", {}).get("workercount", 1)
    items[:] = _longest_first(items, processes)


def _longest_first(items, processes):
    """`--dist worksteal` cuts the list into one piece for each process."""
    long = [item for item in reversed(items) if "long" in item.keywords]
    rest = iter([item for item in items if "long" not in item.keywords])
    share = -(-len(items) // processes)
    ordered = []
    for process in range(processes):
        piece = long[process::processes]
        ordered += [*piece, *itertools.islice(rest, share - len(piece))]
    return [*ordered, *rest]
