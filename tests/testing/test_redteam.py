"""The shipped suite against this machine's harness: nothing false, in either direction."""

import re
from pathlib import Path

import pytest

from kernelevolve import app
from kernelevolve.config import RunConfig
from kernelevolve.core.detector import Detector
from kernelevolve.core.errors import UsageError
from kernelevolve.testing.redteam import __main__ as tables
from kernelevolve.testing.redteam import suite
from kernelevolve.testing.redteam.record import variant

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ("remembers-addresses", "returns-zeros", "lazy-subclass", "changes-the-folder")
MOST_DISTURBED = 2
"""Of nearly 400 verdicts, by whatever else a machine does; they must be right when judged again."""


@pytest.mark.alone
@pytest.mark.needs_gxx
@pytest.mark.needs_sandbox
@pytest.mark.timeout(900)
def test_exploits_are_caught_for_their_own_reason_and_honest_kernels_are_ok(tmp_path):
    config = RunConfig(store=str(tmp_path))
    found = app.redteam(config, suite.cases())
    assert len(found.of("exploit")) == len(found.of("twin")) >= 70
    assert len(found.of("honest")) >= 30
    disturbed = [o for o in found.outcomes if not o.passed]
    assert len(disturbed) <= MOST_DISTURBED, wrong(found)
    if disturbed:
        assert wrong(app.redteam(config, [o.case for o in disturbed])) == []


@pytest.mark.slow
@pytest.mark.needs_gxx
@pytest.mark.needs_sandbox
def test_without_its_detectors_an_exploit_scores(tmp_path):
    found = app.redteam(RunConfig(store=str(tmp_path)), suite.cases(names=SAMPLE, ablate=True))
    assert wrong(found) == []
    assert [o.found.score is not None for o in found.of("ablated")] == [True] * len(SAMPLE)


@pytest.mark.slow
@pytest.mark.needs_gxx
@pytest.mark.needs_sandbox
def test_what_the_docs_call_a_limit_is_one(tmp_path):
    names = [limit.name for limit in suite.limits() if limit.serves("cpu", "cpp")]
    found = app.redteam(RunConfig(store=str(tmp_path)), suite.cases(names=names))
    assert len(found.of("limit")) == len(names)
    assert wrong(found) == []


def wrong(found):
    return [o.row() for o in found.outcomes if not o.passed]


def test_every_detector_has_an_exploit_that_names_it():
    named = {detector for exploit in suite.exploits() for detector in exploit.caught_by}
    assert set(Detector) - named == set()
    assert len(suite.exploits()) >= 70


def test_names_are_unique_and_rows_are_rows():
    fixtures = [*suite.exploits(), *suite.honest(), *suite.limits()]
    assert len({f.name for f in fixtures}) == len(fixtures)
    assert all(re.fullmatch(r"[A-H]\d+", e.row) for e in (*suite.exploits(), *suite.limits()))


def test_a_twin_is_the_exploit_without_its_marked_lines():
    text = """
        def forward(x):
            return 0  # cheat
            return x  # honest
            // cheat is no mark here
    """
    kept = "    // cheat is no mark here\n"
    assert variant(text, cheating=True) == "def forward(x):\n    return 0\n" + kept
    assert variant(text, cheating=False) == "def forward(x):\n    return x\n" + kept
    for exploit in suite.exploits():
        twin = exploit.candidate("cpp", cheating=False)
        assert twin.id != exploit.candidate("cpp").id, exploit.name


def test_unknown_names_are_an_error_that_lists_similar_ones():
    with pytest.raises(UsageError, match="remembers-addresses"):
        suite.cases(names=["remember-addresses"])
    with pytest.raises(UsageError, match="unknown class 'Z'"):
        suite.cases(classes=["Z"])


def test_the_table_in_the_docs_is_the_suite():
    text = (ROOT / "docs" / "trust.md").read_text()
    assert tables.rendered(text) == text
    assert "`remembers-addresses`" in text
    assert "`second-backward-fails`" in text
