"""Architectures of a vendor's sheet, for which an emulator stands where no device is."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path

from kernelevolve.core.target import Multiprocessor, TargetSpec

DEVICE = ("name", "last_level_cache", "memory")
"""What a row says of the whole device; the rest is of a multiprocessor."""


def emulated(vendor: str, sheet: Path, fixed: Mapping[str, int]) -> tuple[TargetSpec, ...]:
    """One for each row.

    Args:
        vendor: whose sheet it is.
        sheet: its rows by architecture.
        fixed: limits that all of them have in common.
    """
    return tuple(
        TargetSpec(
            vendor=vendor,
            arch=arch,
            cores=tuple(sorted(os.sched_getaffinity(0))),
            multiprocessor=Multiprocessor(
                **{k: v for k, v in row.items() if k not in DEVICE}, **fixed
            ),
            fidelity="emulated",
            **{k: row[k] for k in DEVICE},
        )
        for arch, row in tomllib.loads(sheet.read_text()).items()
    )
