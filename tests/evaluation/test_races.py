from kernelevolve.core.candidate import Candidate, SourceFile
from kernelevolve.core.job import Finished
from kernelevolve.evaluation.races import build, summary

REPORT = """noise
==================
WARNING: ThreadSanitizer: data race (pid=32311)
  Read of size 4 at 0x7ff28a42305c by main thread:
    #0 std::function<void ()>::operator() /usr/include/c++/12/functional:591 (k.so.watched+0x1)
    #1 half /builds/1a/kernel.cpp:3 (k.so.watched+0x119f)
    #2 main /tmp/replay_calls.cpp:3 (replay_calls+0x1221)

  Previous write of size 4 at 0x7ff28a42305c by thread T1:
    #0 half /builds/1a/kernel.cpp:7 (k.so.watched+0x11cf)

  Location is global 'shared' of size 4 at 0x7ff28a42305c (k.so.watched+0x405c)

SUMMARY: ThreadSanitizer: data race /builds/1a/kernel.cpp:3 in half
"""


def test_a_race_in_one_line():
    said = summary(REPORT, ["model.py", "kernel.cpp"])
    assert "data race, read at kernel.cpp:3 in half, previous write at kernel.cpp:7 in half" in said


def test_a_race_outside_the_candidates_sources_is_nobodys():
    assert summary(REPORT, ["model.py", "other.cpp"]) == ""
    assert summary("WARNING: ThreadSanitizer: data race", ["kernel.cpp"]) == ""
    assert summary("", ["kernel.cpp"]) == ""


def built(folder, kernel, *flags):
    """What is compiled, and the remark."""
    (folder / ".build").mkdir(exist_ok=True)
    files = (SourceFile(path="model.py", text=""), SourceFile(path="kernel.cpp", text=kernel))
    commands = []

    def run(command, where, limits):
        commands.append(command)
        return Finished(code=0, output="")

    command = ["g++", *flags, "-o", "k.so", "kernel.cpp"]
    _, remark = build(Candidate(language="cpp", files=files), [command], folder, run)
    return commands, remark


def test_only_kernels_with_threads_are_built_again(tmp_path):
    assert built(tmp_path, "int x;") == ([], "")
    commands, remark = built(tmp_path, "#include <thread>")
    assert [c[c.index("-o") + 1].rpartition("/")[2] for c in commands] == [
        "k.so.watched",
        "replay_calls",
    ]
    assert not remark


def test_what_would_give_false_alarms_is_left_out_with_a_remark(tmp_path):
    assert built(tmp_path, "#pragma omp parallel", "-fopenmp")[0] == []
    assert "OpenMP" in built(tmp_path, "#pragma omp parallel", "-fopenmp")[1]
    assert "fences" in built(tmp_path, "#include <thread>\nstd::atomic_thread_fence(x);")[1]
