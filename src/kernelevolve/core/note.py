"""What is known of kernels and machines, in notes short enough to be part of a brief."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator

from kernelevolve.core.record import Record

Kind = Literal["constraint", "guidance", "hardware", "language", "skill"]

REF = r"^[a-z0-9][a-z0-9_.-]*(/[a-z0-9][a-z0-9_.-]*)*$"


class Note(Record):
    """One fact or technique, with the symptoms by which one sees that it is needed."""

    ref: str = Field(pattern=REF)
    """Path in the knowledge base without `.md`: `hardware/nvidia/shared-memory-banks`."""
    title: str = Field(min_length=1)
    """What it says, in one line."""
    kind: Kind
    """A rule that holds, advice, a fact of hardware or language, or what a run taught."""
    targets: tuple[str, ...] = ()
    """Vendors, or vendor:arch, that it is about; empty for any."""
    languages: tuple[str, ...] = ()
    """Languages that it is about; empty for any."""
    symptoms: tuple[str, ...] = ()
    """Short phrases as they occur in a diagnosis, a compiler's message or a profile."""
    source: tuple[str, ...] = Field(min_length=1)
    """Where it is from: `Title <https://…>`, `kernelevolve: design/0021`, `measured: …` or
    `run: …`."""
    test: str = ""
    """Pytest id of the test that verifies the code it shows; empty where it shows none."""
    text: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
    """Markdown; `[[ref]]` names another note."""

    @field_validator("title")
    @classmethod
    def _one_line(cls, title: str) -> str:
        return " ".join(title.split())

    def about(self, target: str, language: str) -> bool:
        """Whether it can help on this device in this language; an empty one stands for any."""
        for_target = not target or not self.targets or any(_meet(t, target) for t in self.targets)
        return for_target and (not language or not self.languages or language in self.languages)


def _meet(one: str, other: str) -> bool:
    """Whether one address is the other, or is a device of that family."""
    return f"{one}:".startswith(f"{other}:") or f"{other}:".startswith(f"{one}:")
