"""One session of a run in its own process: `killed_run.py FOLDER NODES`. Meant to be killed."""

import asyncio
import sys
from pathlib import Path

from kernelevolve.core.evaluation import Stage
from kernelevolve.core.graph import Graph
from kernelevolve.core.job import Job
from kernelevolve.stores.sqlite import Sqlite
from tests.search.search_kit import Device, Writer, session


class SlowDevice(Device):
    """Takes a moment, so that a kill finds attempts in flight."""

    async def evaluate(self, job: Job):
        await asyncio.sleep(0.004)
        return await super().evaluate(job)


def main(folder: Path, nodes: int) -> None:
    store = Sqlite(folder)
    before = Graph.fold(store.read("run"))
    done = {n.proposal.candidate for n in before if n.proposal and n.evaluation}

    def on_evaluate(job: Job) -> None:
        if job.stage is Stage.BENCHMARK and job.candidate.id in done:
            (folder / "evaluated_again").write_text(job.candidate.files[0].text)

    writer = Writer(lambda brief: f"source {brief.number % 37}")
    asyncio.run(session(store, writer, SlowDevice(on_evaluate=on_evaluate), nodes=nodes).run())
    store.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
