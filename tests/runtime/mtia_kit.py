"""Kernels of the folder beside it, built once for all tests of a process."""

import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from kernelevolve.config import cache_folder
from kernelevolve.runtime import mtia
from kernelevolve.runtime.mtia.machine import machines

KERNELS = Path(__file__).parent / "mtia_kernels"


@cache
def folder():
    made = Path(mkdtemp(prefix="mtia"))
    shutil.copytree(KERNELS, made, dirs_exist_ok=True)
    kept = cache_folder() / "mtia" / f"{mtia.simulator_key()}.so"
    mtia.build_simulator(kept)
    (made / ".build").mkdir()
    shutil.copyfile(kept, made / ".build" / mtia.SIMULATOR)
    return made


def kernel(source, name, arch="2i"):
    found = mtia.load_from(folder(), f"{source}.cpp", name)
    found.machine = machines()[arch]
    return found
