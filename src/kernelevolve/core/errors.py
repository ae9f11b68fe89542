"""What can go wrong outside a candidate, whose own failure is a `Status`, never an exception.

KernelEvolveError
├── UsageError          bad input: one clear message (what, where, what to do), exit code 2
│   ├── TaskError       the task file or its inputs
│   ├── UnknownName     no such policy, language, target …; the message lists the known ones
│   ├── MissingDependency   something to install; the message holds the command
│   └── BrokenPlugin    a plug-in from elsewhere that cannot be imported
├── StoreError          the store cannot be read or written
│   └── LeaseHeld       another process is writing this run
├── HarnessError        our own machinery failed beyond a retry
└── ProgrammerError     a programmer could not answer a brief
    └── ProgrammerLost  nor will it answer the next one: a key is refused, a model does not exist
"""


class KernelEvolveError(Exception):
    """Root of every error that this package raises on purpose."""


class UsageError(KernelEvolveError):
    """Bad input; the message says what, where and what to change."""


class TaskError(UsageError):
    """A task that cannot be used as it stands."""


class UnknownName(UsageError):
    """A name that the registry does not know."""


class MissingDependency(UsageError):
    """Something that has to be installed first."""


class BrokenPlugin(UsageError):
    """A plug-in of somebody else's that cannot be imported; the message names its package."""


class StoreError(KernelEvolveError):
    """The store cannot be read or written."""


class LeaseHeld(StoreError):
    """Another live process writes this run."""


class HarnessError(KernelEvolveError):
    """Our own machinery failed, and a retry did not help."""


class ProgrammerError(KernelEvolveError):
    """A programmer could not answer a brief."""


class ProgrammerLost(ProgrammerError):
    """A programmer can answer no brief any more; the run stops and can be resumed."""
