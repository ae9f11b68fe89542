"""The built-in programmer: capture, rewrite, regions, schedule, emit. See `programmer.py`."""

from kernelevolve.core.protocols import Programmer
from kernelevolve.programmers.builtin.programmer import Builtin

plugin: type[Programmer] = Builtin
