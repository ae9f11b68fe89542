"""The plan behind a candidate: every decision that moves may change, as a small frozen record."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Literal

from pydantic import Field, field_validator

from kernelevolve.core.record import Record
from kernelevolve.programmers.builtin.emit.contraction_schedule import ContractionSchedule

BASE_FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math")


class Loops(Record):
    """How map/reduce regions run."""

    unroll: Literal[1, 2, 4, 8] = 2
    """Vectors in flight along a row, each with accumulators of its own."""
    columns: Literal[1, 2, 4, 8] = 4
    """Vectors of outer points worked on together where lanes run along an outer axis."""
    stage: bool = True
    """Keep costly values of a row in scratch memory instead of computing them in each pass."""
    reciprocal: bool = True
    """Multiply with the reciprocal of what does not change in a loop instead of dividing."""
    stream: bool = False
    """Write results past the caches."""
    width: Literal[8, 16] = 16
    """Lanes of a vector, for the whole file."""


class Blocks(Record):
    """How regions are spread over the threads of a GPU."""

    threads: Literal[0, 32, 64, 128, 256, 512, 1024] = 0
    """That share a row; 0 fits its length."""
    rows: Literal[1, 2, 4, 8] = 4
    """Of a block where a warp has a row of its own."""
    parts: Literal[1, 4, 8, 16, 32] = 8
    """Threads that share a column."""
    keep: bool = True
    """Hold what several passes over a row need in registers, where rows are not too long."""
    tree: Literal[0, 16, 32, 64, 128] = 0
    """KiB of shared memory for the first levels of tables that are searched."""
    tile_m: Literal[32, 64, 128] = 64
    """Rows of a product that a block makes."""
    tile_n: Literal[32, 64, 96, 128] = 64
    """Columns of it."""
    tile_k: Literal[16, 32, 64] = 32
    """Terms of it that are in shared memory at once, on tensor cores."""


class Tiles(Record):
    """How regions are spread over the programs of a GPU that each work on blocks of values."""

    warps: Literal[0, 1, 2, 4, 8, 16] = 0
    """Of a program; 0 fits its block."""
    map_block: Literal[256, 512, 1024, 2048, 4096] = 1024
    """Elements of a program where nothing is reduced."""
    row_points: Literal[0, 1, 2, 4, 8, 16] = 0
    """Rows of a program; 0 fits their length."""
    row_most: Literal[1024, 4096, 16384, 32768] = 16384
    """The longest row that is held in registers."""
    column_width: Literal[16, 32, 64, 128, 256] = 64
    """Columns of a program."""
    column_depth: Literal[8, 16, 32, 64, 128] = 32
    """Elements of each column that it takes in at once."""
    splits: Literal[0, 1, 4, 16, 64, 256] = 0
    """Programs that share a long reduction where points are few; 0 fits the device."""
    dot_m: Literal[16, 32, 64, 128] = 64
    """Rows of a product that a program makes."""
    dot_n: Literal[16, 32, 64, 128, 256] = 128
    """Columns of it."""
    dot_k: Literal[16, 32, 64, 128] = 32
    """Terms of it that are multiplied at once."""
    group: Literal[1, 4, 8, 16] = 1
    """Rows of blocks of a product that programs take together, so that they share columns."""
    registers: Literal[0, 64, 96, 128, 168, 224] = 0
    """The most that a thread of a product has; 0 leaves that to the compiler."""
    query_rows: Literal[0, 16, 32, 64, 128] = 0
    """Rows of attention of a program; 0 fits the width of a head."""
    key_block: Literal[0, 16, 32, 64, 128] = 0
    """Keys that they attend to at once; 0 fits it too."""
    stages: Literal[1, 2, 3, 4, 5] = 3
    """Steps of a product for which operands are on their way at once."""


class Engines(Record):
    """How regions are spread over processing elements and their engines."""

    tile: Literal[1024, 2048, 4096, 8192, 16384] = 4096
    """Elements that one command works on, about."""
    buffers: Literal[1, 2, 3, 4] = 2
    """Tiles of an operand or a result that are under way at once."""
    functions: Literal["", "vector"] = ""
    """Leave functions to the vector core instead of tables and series on the SIMD engine."""
    share: bool = False
    """Read what all processing elements need once for each row of them."""
    side: Literal[16, 32, 64, 128, 256] = 64
    """Rows and columns of a product's tile."""
    terms: Literal[32, 64, 128, 256, 512] = 128
    """Terms of it that are multiplied at once."""
    both: bool = False
    """Both cores have tiles of their own, instead of one that reads for the other."""


class Plan(Record):
    """One candidate's decisions."""

    loops: Loops = Loops()
    """How map/reduce regions run on a processor."""
    blocks: Blocks = Blocks()
    """How they run on a GPU, thread by thread."""
    tiles: Tiles = Tiles()
    """How they run on a GPU, block by block."""
    engines: Engines = Engines()
    """How they run on processing elements."""
    fast_math: bool = False
    """Shorter polynomials: exp to about 2 ulp instead of 1, erf where 16 bits are left of it."""
    cuts: tuple[int, ...] = ()
    """Nodes of the program that become memory although they could be fused."""
    prologues: bool = False
    """Apply what comes before a product while packing its operands."""
    algebra: bool = True
    """Use rewrites that change the order of arithmetic (re-association and the like)."""
    parallel: bool = False
    """Divide regions with enough work among the threads that torch may use."""
    library: bool = False
    """Leave products to the library."""
    convolve: bool = False
    """Write convolutions, which are the library's otherwise."""
    graph: bool = False
    """Launch the kernels between two library calls together, on a GPU."""
    huge_pages: bool = True
    """Ask for large pages behind new outputs, so that touching them first costs less."""
    tune: Literal["", "-mprefer-vector-width=512", "-mprefer-vector-width=256"] = ""
    """A further compiler flag."""
    chains: bool = True
    """Run neighbouring products, and what lies between them, row block by row block."""
    chain_rows: Literal[0, 24, 48, 96, 192, 384] = 0
    """Rows of such a block; 0 fits what lies between into half of the second-level cache."""
    contractions: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Fields of each product's `ContractionSchedule`, by region."""

    @field_validator("contractions")
    @classmethod
    def _known(cls, value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        return {name: asdict(ContractionSchedule(**fields)) for name, fields in value.items()}

    @property
    def flags(self) -> tuple[str, ...]:
        """The compiler's."""
        return (*BASE_FLAGS, *((self.tune,) if self.tune else ()))

    def contraction(self, region: str) -> ContractionSchedule | None:
        """The schedule of a product, None where the plan leaves it to the default."""
        fields = self.contractions.get(region)
        return None if fields is None else ContractionSchedule(**fields)
