"""What every target must do, with or without its hardware."""

from kernelevolve import registry
from kernelevolve.core.protocols import Target
from kernelevolve.core.target import Address


class TargetContract:
    """Subclass with `name`."""

    name: str

    @property
    def target(self) -> Target:
        """The plug-in under test."""
        return registry.load("target", self.name)()  # type: ignore[no-any-return]

    def test_addresses_parse_back(self) -> None:
        for spec in self.target.discover():
            assert Address.parse(spec.address).matches(spec)
            assert spec.vendor == self.name

    def test_environment_and_clock_fit_each_device(self) -> None:
        for spec in self.target.discover():
            assert all(isinstance(v, str) for v in self.target.environment(spec).values())
            clock = self.target.clock(spec)
            assert clock.resolution_us > 0
            assert clock.flush_bytes >= spec.last_level_cache

    def test_measured_peaks_are_positive_and_fall_with_the_working_set(self) -> None:
        for spec in self.target.discover():
            peaks = self.target.measure(spec).peaks
            assert all(rate > 0 for rate in peaks.flops.values())
            rows = peaks.bandwidth
            assert [r.working_set for r in rows] == sorted(r.working_set for r in rows)
            if rows:
                assert rows[0].bytes_per_second > rows[-1].bytes_per_second > 0

    def test_measuring_twice_gives_the_same(self) -> None:
        for spec in self.target.discover():
            assert self.target.measure(spec) == self.target.measure(spec)
