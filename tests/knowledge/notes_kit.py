"""The code that packaged notes show, by language of its block."""

import re

from kernelevolve.knowledge import notefile
from kernelevolve.knowledge.library import PACKAGED


def shown(language: str) -> dict[str, str]:
    """Ref to all code of a note in one language."""
    block = re.compile(rf"^```{language}\n(.*?)^```", re.MULTILINE | re.DOTALL)
    notes = {ref: notefile.read(path, ref) for ref, path in notefile.files(PACKAGED).items()}
    return {ref: "".join(found) for ref, n in notes.items() if (found := block.findall(n.text))}
