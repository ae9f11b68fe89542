"""The programmer that asks language models; imported, with their libraries, where it is named."""

from kernelevolve.core.errors import MissingDependency
from kernelevolve.core.protocols import Programmer

try:
    from kernelevolve.programmers.llm.programmer import Llm
except ModuleNotFoundError as error:
    if (error.name or "").startswith("kernelevolve"):
        raise
    raise MissingDependency(
        f"programmer 'llm' needs {error.name}: pip install 'kernelevolve[llm]'"
    ) from error

plugin: type[Programmer] = Llm
