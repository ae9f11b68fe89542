import pytest

from kernelevolve.core.candidate import Candidate, SourceFile
from kernelevolve.languages.mtia_cpp import MtiaCpp, loads_of
from kernelevolve.targets.mtia import Mtia
from kernelevolve.testing.contracts.language import LanguageContract, run_here

pytestmark = pytest.mark.needs_gxx
SPEC = next(spec for spec in Mtia().discover() if spec.arch == "2i")


class TestMtiaCppContract(LanguageContract):
    name = "mtia_cpp"
    spec = SPEC
    broken = SourceFile(path="kernel.cpp", text="#include <mtia.h>\nvoid f(mtia::Core core) {}\nx")


def test_guide_holds_the_header():
    guide = MtiaCpp().guide(SPEC)
    assert "class Core {" in guide
    assert "#define MTIA_KERNEL(name)" in guide


@pytest.mark.parametrize("flag", ["-I/etc", "-include=x", "-O0", "-fplugin=x", "-Wl,-x"])
def test_flags_other_than_macros_are_refused(flag):
    with pytest.raises(ValueError, match="is not allowed"):
        loads_of(f'k = mtia.load("kernel.cpp", "k", flags=["{flag}"])')


def test_a_source_that_is_missing_is_named(tmp_path):
    text = 'from kernelevolve.runtime import mtia\nk = mtia.load("other.cpp", "k")\n'
    candidate = Candidate(language="mtia_cpp", files=(SourceFile(path="model.py", text=text),))
    found = MtiaCpp().build(candidate, SPEC, tmp_path, run_here)
    assert "loads 'other.cpp', which is not among the files" in found.message
