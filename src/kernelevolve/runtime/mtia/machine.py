"""The machines of `machines.toml`, in the units of a cycle."""

import ctypes
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SHEET = Path(__file__).parent / "machines.toml"
EVERY = "every"


class Constants(ctypes.Structure):
    """`mtia_machine` of mtia_abi.h."""

    _fields_ = tuple(
        (name, ctypes.c_double)
        for name in (
            *("rows", "columns", "local_bytes", "sram_bytes"),
            *("local_rate", "sram_rate", "dram_rate", "port_rate"),
            *("sram_latency", "dram_latency", "cache_line", "core_cache", "core_line"),
            *("matrix_bytes", "matrix_latency", "simd_elements", "simd_latency"),
            *("vector_bytes", "vector_cores", "gather_cycles", "gather_lanes"),
            *(
                "element_cycles",
                "layout_rate",
                "link_rate",
                "issue_cycles",
                "queue_commands",
                "transfers",
                "launch_cycles",
            ),
            *("aligned_reads", "aligned_writes", "int8"),
        )
    )


@dataclass(frozen=True)
class Constant:
    """One number with its origin."""

    value: float
    kind: str
    """`public`, `derived`, `assumed` or `fitted`."""
    source: str


@dataclass(frozen=True)
class Machine:
    """One chip."""

    arch: str
    name: str
    constants: dict[str, Constant]

    def __getitem__(self, name: str) -> float:
        """A constant's value."""
        return self.constants[name].value

    @property
    def pes(self) -> int:
        """Processing elements."""
        return int(self["rows"] * self["columns"])

    @property
    def sram_bytes(self) -> int:
        """On-chip memory, cache and scratch together."""
        return int(self["sram_mb"]) << 20

    @property
    def partition(self) -> int:
        """Bytes in whose multiples SRAM is split."""
        return int(self["partition_mb"]) << 20

    def launch_us(self, first: bool) -> float:
        """What starting a kernel costs: the first of a call, or one after another."""
        return self["launch_us" if first else "replace_us"]

    def us(self, cycles: float) -> float:
        """Cycles as microseconds."""
        return cycles / self["clock_ghz"] * 1e-3

    def flops(self, dtype: str) -> float:
        """Peak operations a second, a multiply-add counted as two.

        Of the DPE for the types that it multiplies, of the SIMD engines for all others.
        """
        int8 = 2 * self["matrix_macs"] * self["int8"]
        matrix = {"float16": self["matrix_macs"], "bfloat16": self["matrix_macs"], "int8": int8}
        per_cycle = matrix.get(dtype) or 2 * self["simd_elements"]
        return per_cycle * self.pes * self["clock_ghz"] * 1e9

    @property
    def elements(self) -> float:
        """Elements a second of all SIMD engines."""
        return self["simd_elements"] * self.pes * self["clock_ghz"] * 1e9

    def given(self, first: bool) -> Constants:
        """What the simulator takes."""
        hertz, ghz = self["clock_ghz"] * 1e9, self["clock_ghz"]
        miss = self["miss_ns"] * ghz
        return Constants(
            rows=self["rows"],
            columns=self["columns"],
            local_bytes=self["local_kb"] * 1024,
            sram_bytes=self.sram_bytes,
            local_rate=self["local_tb_s"] * 1e12 / hertz,
            sram_rate=self["sram_tb_s"] * 1e12 / hertz,
            dram_rate=self["dram_gb_s"] * 1e9 / hertz,
            port_rate=self["port_bytes"],
            sram_latency=miss,
            dram_latency=miss * self["dram_to_sram"],
            cache_line=self["cache_line"],
            core_cache=self["core_cache_kb"] * 1024,
            core_line=self["core_line"],
            matrix_bytes=self["matrix_macs"],
            matrix_latency=self["matrix_latency"],
            simd_elements=self["simd_elements"],
            simd_latency=self["simd_latency"],
            vector_bytes=self["vector_bytes"],
            vector_cores=self["vector_cores"],
            gather_cycles=self["gather_ns"] * ghz,
            gather_lanes=self["gather_lanes"],
            element_cycles=self["element_cycles"],
            layout_rate=self["layout_bytes"],
            link_rate=self["link_bytes"],
            issue_cycles=self["issue_cycles"],
            queue_commands=self["queue_commands"],
            transfers=self["transfers"],
            launch_cycles=self.launch_us(first) * ghz * 1e3,
            aligned_reads=self["align_reads"],
            aligned_writes=self["align_writes"],
            int8=self["int8"],
        )


@cache
def machines() -> dict[str, Machine]:
    """Every chip of the sheet by its architecture."""
    sheet = tomllib.loads(SHEET.read_text())
    shared = _constants(sheet.pop(EVERY))
    return {
        arch: Machine(arch, row["name"], shared | _constants(row)) for arch, row in sheet.items()
    }


def _constants(row: dict[str, object]) -> dict[str, Constant]:
    return {name: Constant(**v) for name, v in row.items() if isinstance(v, dict)}
