"""Runners of candidates: forked before they are wanted, seen off while others work. In the judge.

Forking a process that has torch in it and waiting until one is gone takes a tenth of the time that
a small candidate is judged in; both are done beside, but never while something is timed.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress

from kernelevolve.core.job import Limits
from kernelevolve.evaluation.processes import Lost, Runner


class Ahead:
    """One runner ahead, for a candidate with the limits of the last one.

    Args:
        fork: makes a runner to which nothing is shown yet.
    """

    def __init__(self, fork: Callable[[Limits], Runner]) -> None:
        self._fork = fork
        self._beside = ThreadPoolExecutor(1)
        self._spare: tuple[Limits, Future[Runner]] | None = None
        self._leaving: list[Future[None]] = []

    def take(self, limits: Limits, folder: str) -> Runner:
        """A runner that is shown this build, and the next one is on its way.

        Raises:
            Lost: none could be forked.
        """
        runner = self._waiting(limits, folder) or self._new(limits, folder)
        self._spare = limits, self._beside.submit(self._fork, limits)
        return runner

    def _waiting(self, limits: Limits, folder: str) -> Runner | None:
        """The one ahead, if it is for such limits and still alive."""
        if self._spare is None:
            return None
        (suits, forked), self._spare = self._spare, None
        with suppress(Lost):
            runner = forked.result()
            if suits == limits:
                return _shown(runner, folder)
            self.see_off(runner)
        return None

    def _new(self, limits: Limits, folder: str) -> Runner:
        return _shown(self._fork(limits), folder)

    def see_off(self, runner: Runner) -> None:
        """Kill it, and go on."""
        runner.kill()
        self._leaving.append(self._beside.submit(runner.close))

    def settle(self) -> None:
        """Wait until those that were seen off are gone, and the next one is there."""
        while self._leaving:
            self._leaving.pop().result()
        if self._spare is not None:
            wait([self._spare[1]])


def _shown(runner: Runner, folder: str) -> Runner:
    try:
        runner.show(folder)
    except Lost:
        runner.close()
        raise
    return runner
