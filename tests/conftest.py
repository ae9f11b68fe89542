"""Skips, in one place, what this machine cannot run; the reason says what to install."""

import shutil

import pytest

from kernelevolve.evaluation import sandbox


def pytest_collection_modifyitems(items):
    missing = {}
    if shutil.which("g++") is None:
        missing["needs_gxx"] = "g++ is missing: apt-get install g++"
    if sandbox.state() == "none":
        missing["needs_sandbox"] = "bubblewrap is missing or not permitted here"
    for item in items:
        for mark, reason in missing.items():
            if mark in item.keywords:
                item.add_marker(pytest.mark.skip(reason=reason))
