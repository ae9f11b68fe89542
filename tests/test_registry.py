from pathlib import Path

import pytest

from kernelevolve import registry, wiring
from kernelevolve.config import RunConfig
from kernelevolve.core.errors import BrokenPlugin, MissingDependency, UnknownName

TESTS = Path(__file__).parent
CONTRACTS = TESTS.parent / "src" / "kernelevolve" / "testing" / "contracts"
UNDER_CONTRACT = sorted(p.stem for p in CONTRACTS.glob("*.py") if not p.stem.startswith("_"))
ALL_TESTS = "\n".join(p.read_text() for p in TESTS.rglob("test_*.py") if p != Path(__file__))


def test_the_folder_is_the_registry():
    assert set(registry.names("policy")) == {"beam", "greedy", "mcts"}
    assert set(registry.names("store")) == {"memory", "sqlite"}


@pytest.mark.parametrize("family", ["policy", "store"])
def test_every_plugin_loads_and_is_documented(family):
    for name in registry.names(family):
        assert registry.load(family, name).__doc__


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(UnknownName, match=r"unknown policy 'greeedy'; known: beam, greedy, mcts"):
        registry.load("policy", "greeedy")


def test_a_missing_dependency_names_its_install(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError("No module named 'ray'", name="ray")

    monkeypatch.setattr(registry, "import_module", missing)
    with pytest.raises(MissingDependency, match="policy 'beam' needs ray: pip install ray"):
        registry.load("policy", "beam")


def test_third_parties_add_plugins_by_entry_point(monkeypatch):
    class Mine:
        """A policy from elsewhere."""

    class Point:
        name = "mine"

        def load(self):
            return Mine

    def entry_points(group):
        return [Point()] if group == "kernelevolve.policies" else []

    monkeypatch.setattr(registry, "entry_points", entry_points)
    registry.names.cache_clear()
    try:
        assert registry.names("policy") == ("beam", "greedy", "mcts", "mine")
        assert registry.load("policy", "mine") is Mine
    finally:
        registry.names.cache_clear()


@pytest.fixture
def broken(monkeypatch):
    """A language from elsewhere with a fault in its module."""

    class Point:
        name = "abacus"
        value = "beads.language:plugin"
        dist = None

        def load(self):
            raise SyntaxError("invalid syntax (language.py, line 3)")

    def entry_points(group):
        return [Point()] if group == "kernelevolve.languages" else []

    monkeypatch.setattr(registry, "entry_points", entry_points)
    registry.names.cache_clear()
    yield
    registry.names.cache_clear()


@pytest.mark.usefixtures("broken")
def test_a_broken_plugin_from_elsewhere_is_named_and_the_rest_works(caplog):
    with pytest.raises(BrokenPlugin, match=r"'abacus' of the package beads.*line 3.*uninstall"):
        registry.load("language", "abacus")
    assert wiring.with_language(RunConfig(target="cpu")).language == "cpp"
    assert "language 'abacus'" in caplog.text


@pytest.mark.parametrize("family", UNDER_CONTRACT)
def test_every_plugin_of_a_family_is_under_its_contract(family):
    """By running the contract over `registry.names`, or by naming each plug-in in its tests."""
    contract = f"{family.capitalize()}Contract"
    assert f"({contract})" in ALL_TESTS, f"no test subclasses {contract}"
    if f'registry.names("{family}")' not in ALL_TESTS:
        folder = registry.FAMILIES[family]
        named = ('"{}"', f"kernelevolve.{folder}.{{}} import")
        uncovered = [
            name
            for name in registry.names(family)
            if not any(form.format(name) in ALL_TESTS for form in named)
        ]
        assert not uncovered, f"{contract} does not cover {family} {uncovered}"


def test_policies_stores_and_programmers_are_under_contract():
    assert {"policy", "store", "programmer"} <= set(UNDER_CONTRACT)
