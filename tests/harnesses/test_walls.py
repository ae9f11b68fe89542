"""What candidates and their builds may not reach, use up, or leave behind."""

import os
import platform
import time
from pathlib import Path

import pytest
import torch

from kernelevolve.core.candidate import Candidate, SourceFile
from kernelevolve.core.detector import Detector
from kernelevolve.core.evaluation import Stage, Status
from kernelevolve.core.job import Job, Limits
from kernelevolve.evaluation import sandbox
from kernelevolve.evaluation.family import descendants
from tests.harnesses.conftest import HEAD, SPEC

pytestmark = [
    pytest.mark.needs_sandbox,
    pytest.mark.skipif(sandbox.state() == "none", reason="bubblewrap is missing"),
    pytest.mark.slow,
]
TASK = """
MARK = "the reference's own text"
class Model(nn.Module):
    def forward(self, x):
        return x + 1

def get_inputs():
    return [torch.randn(16, 16)]
"""
HONEST = "class ModelNew(nn.Module):\n    def forward(self, x):\n        return x + 1\n"


def attempt(bench, body: str):
    model = f"""
import ctypes, errno, glob, os, signal, socket, subprocess
def attempt():
{body}
class ModelNew(nn.Module):
    def forward(self, x):
        raise RuntimeError("got: " + str(attempt()))
"""
    found = bench.verdict(bench.task(TASK), model)
    assert found.status is Status.CRASHED, found.message
    return found.message.splitlines()[0]


def test_no_network(bench):
    body = "    return socket.create_connection(('127.0.0.1', 22), 1)"
    assert "Error" in attempt(bench, body).split(":")[0]
    assert "got: ['lo']" in attempt(bench, "    return [name for _, name in socket.if_nameindex()]")


def test_no_timer_goes_on_while_the_process_stands(bench):
    body = """
    made = ctypes.CDLL(None, use_errno=True)
    timer = ctypes.c_void_p()
    failed = made.timer_create(1, None, ctypes.byref(timer)), made.timerfd_create(1, 0)
    return failed, ctypes.get_errno() == errno.EPERM
"""
    assert "got: ((-1, -1), True)" in attempt(bench, body)


def test_nothing_can_be_written_but_the_private_tmp(bench):
    body = """
    written = []
    for folder in ("/", "/usr", "/etc", "/work", "/root", "/home", "/dev", "/proc/self",
                   os.path.dirname(__file__), os.path.dirname(os.path.dirname(__file__)),
                   os.path.dirname(torch.__file__)):
        try:
            open(os.path.join(folder, "kernelevolve-was-here"), "w").close()
            written.append(folder)
        except OSError:
            pass
    return written"""
    assert "got: []" in attempt(bench, body)
    folders = ("/", "/usr", "/etc", "/home", Path.home(), Path(torch.__file__).parent)
    assert not [f for f in folders if Path(f, "kernelevolve-was-here").exists()]
    assert not list(bench.harness.folder.rglob("kernelevolve-was-here"))


def test_the_reference_and_other_builds_cannot_be_read(bench, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("x")
    body = f"""
    own = os.path.dirname(os.path.dirname(__file__))
    return [os.listdir(own) == [os.path.basename(os.path.dirname(__file__))],
            os.path.exists({str(secret)!r}), "task" in __import__("sys").modules,
            os.path.exists("/tmp/task.py"), os.path.exists({str(Path(__file__).parent)!r}),
            os.path.exists("/etc/passwd"), os.path.exists(os.path.expanduser("~root/.ssh"))]"""
    found = attempt(bench, body)
    assert "got: [True, False, False, False, False, False, False]" in found


def test_only_its_own_processes_can_be_seen(bench):
    seen = """
    return sorted(int(p) for p in os.listdir("/proc") if p.isdigit())"""
    assert "got: [1, 2]" in attempt(bench, seen)
    memory = """
    try:
        return open("/proc/1/mem", "rb").read(1)
    except OSError as error:
        return errno.errorcode[error.errno]"""
    assert "got: EACCES" in attempt(bench, memory)


def test_the_environment_and_descriptors_are_its_own(bench):
    scrubbed = """
    return sorted(k for k in os.environ if "KEY" in k or "TOKEN" in k or "KERNELEVOLVE" in k)"""
    assert "got: []" in attempt(bench, scrubbed)
    open_files = """
    kinds = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            kinds.add(os.readlink("/proc/self/fd/" + fd).split("[")[0])
        except OSError:
            pass
    return sorted(kinds)"""
    own = ["/dev/null", "/memfd:block (deleted)", "/memfd:log (deleted)", "socket:"]
    assert f"got: {own}" in attempt(bench, open_files)


CALLS = (
    "libc.ptrace(16, 1, 0, 0)",
    "libc.unshare(0x10000000)",
    "libc.mount(b'none', b'/tmp', b'tmpfs', 0, None)",
    "libc.umount2(os.path.dirname(os.path.dirname(__file__)).encode(), 2)",
    "libc.syscall(319, b'x', 0)",
    "libc.shmget(0, 4096, 0o1600)",
    "libc.prctl(22, 2, 0, 0, 0)",
    "libc.process_vm_readv(1, None, 0, None, 0, 0)",
    "libc.sethostname(b'x', 1)",
    "libc.fcntl(0, 10, 18)",
    "libc.fcntl(0, 8, os.getpid())",
    "libc.ioctl(0, 0x5452, ctypes.byref(ctypes.c_int(1)))",
    "libc.syscall(244, 0, None)",
    "libc.clone(ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 0), stack, 0x10000000 | 17, None)",
)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of x86-64")
def test_calls_that_reach_out_are_refused(bench):
    listed = "".join(f"({call}, errno.errorcode[ctypes.get_errno()]), " for call in CALLS)
    body = f"""
    libc = ctypes.CDLL(None, use_errno=True)
    stack = ctypes.c_void_p(ctypes.addressof(ctypes.create_string_buffer(1 << 16)) + (1 << 16))
    found = [{listed}]
    return len(found), set(found)"""
    assert f"got: ({len(CALLS)}, {{(-1, 'EPERM')}})" in attempt(bench, body)


def model(body: str) -> str:
    lines = "\n".join(f"        {line}" for line in body.splitlines())
    return (
        "import ctypes, os, resource, shutil, signal, threading, time\n"
        f"class ModelNew(nn.Module):\n    def forward(self, x):\n{lines}\n        return x + 1\n"
    )


MANY_IN_GROUP = (Status.CRASHED, Detector.EXIT, "ended by 9")
MANY_WATCHED = (Status.REJECTED, Detector.LIMITS, "of memory together")
ATTACKS = {
    "fork bomb": ("while True: os.fork()", Status.CRASHED, Detector.LIMITS, "unavailable"),
    "thread bomb": (
        "while True: threading.Thread(target=time.sleep, args=(600,), daemon=True).start()",
        Status.CRASHED,
        Detector.LIMITS,
        "thread",
    ),
    "memory hog": (
        "kept = []\nwhile True: kept.append(bytearray(1 << 27))",
        Status.OUT_OF_MEMORY,
        Detector.LIMITS,
        "MemoryError",
    ),
    "memory of many processes": (
        "for _ in range(8):\n    if os.fork() == 0:\n        kept = bytearray(300 << 20)\n"
        "        time.sleep(600)\n"
        "ended = os.wait()\nraise RuntimeError(f'a child ended by {ended[1]}')",
        *(MANY_IN_GROUP if os.access("/sys/fs/cgroup/memory", os.W_OK) else MANY_WATCHED),
    ),
    "one large file": (
        "f = open('/tmp/x', 'wb')\nwhile True: f.write(bytes(1 << 24))",
        Status.CRASHED,
        Detector.LIMITS,
        "too large",
    ),
    "disk filler": (
        "for n in range(100): open(f'/dev/shm/{n}', 'wb').write(bytes(1 << 26))",
        Status.CRASHED,
        Detector.LIMITS,
        "No space left",
    ),
    "file bomb": (
        "for n in range(1 << 20): open(f'/tmp/{n}', 'wb').close()",
        Status.CRASHED,
        Detector.LIMITS,
        "No space left",
    ),
    "descriptor bomb": (
        "kept = [os.dup(0) for _ in range(1 << 20)]",
        Status.CRASHED,
        Detector.LIMITS,
        "Too many open files",
    ),
    "endless output": (
        "while True: print('x' * (1 << 22))",
        Status.CRASHED,
        Detector.LIMITS,
        "too large",
    ),
    "daemon": (
        "if not hasattr(self, 'child'):\n    self.child = os.fork()\n"
        "    if self.child == 0:\n        os.setsid()\n"
        "        if os.fork() == 0: time.sleep(600)\n        os._exit(0)\n    os.wait()",
        Status.REJECTED,
        Detector.STATE,
        "still run after verification",
    ),
    "signal to the process above": ("os.kill(os.getppid(), 9)", Status.OK, None, ""),
    "signal to everybody": (
        "os.kill(-1, 9)",
        Status.CRASHED,
        Detector.EXIT,
        "No such process",
    ),
    "own folder deleted": (
        "shutil.rmtree(os.path.dirname(__file__))",
        Status.CRASHED,
        Detector.EXIT,
        "Read-only file system",
    ),
    "tmp deleted": (
        "for root, folders, files in os.walk('/tmp'):\n"
        "    folders[:] = [f for f in folders if not os.path.ismount(f'{root}/{f}')]\n"
        "    for path in [f'{root}/{f}' for f in files]:\n"
        "        os.access(path, os.W_OK) and os.unlink(path)\n",
        Status.OK,
        None,
        "",
    ),
    "descriptors closed": ("os.closerange(0, 4096)", Status.CRASHED, Detector.EXIT, "exit code 0"),
    "channel closed": (
        "os.closerange(3, 4096)\ntime.sleep(600)",
        Status.REJECTED,
        Detector.PROTOCOL,
        "closed its channel",
    ),
    "garbage to all descriptors": (
        "for fd in range(1, 99):\n    try: os.write(fd, b'\\xff' * 4096)\n    except OSError: pass",
        Status.REJECTED,
        Detector.PROTOCOL,
        "protocol",
    ),
    "stopped": (
        "os.kill(os.getpid(), signal.SIGSTOP)",
        Status.TIMEOUT,
        Detector.LIMITS,
        "no end within",
    ),
    "own limits raised": (
        "resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
        Status.CRASHED,
        Detector.EXIT,
        "not allowed to raise",
    ),
    "replaced": ("os.execv('/bin/true', ['true'])", Status.CRASHED, Detector.EXIT, "exit code 0"),
}


@pytest.fixture(scope="module")
def usual(bench):
    """What there is after an evaluation that did nothing wrong."""
    assert bench.verdict(bench.task(TASK), HONEST).status is Status.OK
    return _left(bench)


@pytest.mark.parametrize("name", ATTACKS)
def test_whatever_it_does_the_next_evaluation_works_and_nothing_is_left(bench, usual, name):
    body, status, detector, says = ATTACKS[name]
    task = bench.task(TASK)
    seconds = 2 if status is Status.TIMEOUT else 20
    found = bench.verdict(task, model(body), run_seconds=seconds, memory_bytes=1 << 30)
    assert (found.status, found.detector) == (status, detector), found.message
    assert says in found.message.splitlines()[0] if says else not found.message
    assert bench.verdict(task, HONEST + f"# after {name}").status is Status.OK
    deadline = time.monotonic() + 10
    while _left(bench)[0] > usual[0] and time.monotonic() < deadline:
        time.sleep(0.02)
    processes, *rest = _left(bench)
    assert processes <= usual[0]
    assert rest == list(usual[1:])


def _left(bench) -> tuple[int, str, list[str]]:
    """Processes, mounts, and files beside builds.

    Between jobs a judge has its warm parents, and references with their inits.
    """
    folder = bench.harness.folder
    files = [str(p) for p in folder.rglob("*") if not p.is_relative_to(folder / "builds")]
    processes = len(descendants(bench.harness._judge.process.pid))
    return processes, Path("/proc/self/mountinfo").read_text(), sorted(files)


def test_nothing_is_left_for_the_next_candidate(bench):
    body = """
    found = [p for f in ("/tmp", "/dev/shm") for p in glob.glob(f + "/*left*")]
    for folder in ("/tmp", "/dev/shm"):
        open(folder + "/left", "w").write("answer")
    return found"""
    assert "got: []" in attempt(bench, body)
    assert "got: []" in attempt(bench, body + "  # again")


NATIVE = """
from kernelevolve.runtime import cpp
kernel = cpp.load("kernel.cpp", flags=["-O1"])
class ModelNew(nn.Module):
    def forward(self, x):
        return x + 1
"""
BOMB = """
template <int N, int K> struct bomb { bomb<N - 1, 2 * K> a; bomb<N - 1, 2 * K + 1> b; };
template <int K> struct bomb<0, K> {};
int x = sizeof(bomb<25, 0>);
"""


def build(bench, files: dict[str, str], **limits: float):
    texts = tuple(SourceFile(path=path, text=text) for path, text in files.items())
    job = Job(
        task=bench.task(TASK),
        candidate=Candidate(language="cpp", files=texts),
        target=SPEC,
        stage=Stage.BUILD,
        seed="1",
        limits=Limits(**limits),
    )
    return bench.loop.run(bench.harness.evaluate(job))


@pytest.mark.needs_gxx
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('#include "/etc/passwd"', "No such file"),
        ('#include "{secret}"', "No such file"),
        ('#include "{store}"', "No such file"),
        ('asm(".incbin \\"{secret}\\"");', "not found"),
        ('#if __has_include("{secret}")\n#error seen\n#endif\n#error unseen', "unseen"),
        ('asm(".space 1 << 40");', "kernel.cpp"),
        ('#include "/dev/zero"', "kernel.cpp"),
        (BOMB.replace("{", "{{").replace("}", "}}"), "kernel.cpp"),
    ],
)
def test_a_build_sees_its_own_folder_and_ends_within_its_limits(bench, tmp_path, text, says):
    secret, store = tmp_path / "secret.h", bench.harness.folder / "store.h"
    for path in (secret, store):
        path.write_text('#error "seen"\n')
    kernel = text.format(secret=secret, store=store)
    files = {"model.py": HEAD + NATIVE, "kernel.cpp": kernel}
    found = build(bench, files, build_seconds=3, memory_bytes=1 << 30)
    assert (found.status, found.detector) == (Status.BUILD_FAILED, Detector.BUILD)
    assert says in found.message
    assert " seen" not in found.message.replace("unseen", "")


@pytest.mark.needs_gxx
def test_a_source_outside_the_candidate_is_not_even_looked_for(bench, tmp_path):
    secret = tmp_path / "kernel.cpp"
    secret.write_text("")
    found = build(bench, {"model.py": HEAD + NATIVE.replace("kernel.cpp", str(secret))})
    assert "not among the files" in found.message


@pytest.mark.needs_gxx
def test_code_that_runs_in_a_build_is_walled_in_too(bench, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("x")
    text = f"""
import ctypes, os, socket
# load_inline
found = [os.path.exists({str(secret)!r}), os.path.exists("/etc/passwd"),
         [n for _, n in socket.if_nameindex()], len(os.listdir("..")),
         ctypes.CDLL(None).unshare(0x10000000),
         sorted(int(p) for p in os.listdir("/proc") if p.isdigit())[-1] < 9]
os.symlink("/dev/zero", "endless.su")
os.mkfifo("waits.inc")
for n in range(30000):
    open(str(n), "w").close()
    if n == 0:
        print("found:", found, flush=True)
"""
    found = build(bench, {"model.py": text})
    assert found.status is not Status.OK
    assert "files" in found.message
    assert "found: [False, False, ['lo'], 1, -1, True]" in found.message
