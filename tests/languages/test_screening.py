"""Each tripwire with a line that touches it and a harmless one that looks alike."""

import pytest

from kernelevolve.core.candidate import Candidate, SourceFile
from kernelevolve.core.task import Task, Workload
from kernelevolve.languages._screening import LARGEST, MOST, screen

REFERENCE = '''
import torch
from torch import nn

class Model(nn.Module):
    """Adds."""

    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        y = x + self.weight
        return torch.relu(y)
'''
TASK = Task(name="t", source=REFERENCE, workloads=(Workload(name="default"),))
MODEL = """
import torch
from torch import nn
from torch.nn import functional as F
from kernelevolve.runtime import cpp
lib = cpp.load("kernel.cpp")
class ModelNew(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
    def forward(self, x):
        out = torch.empty_like(x)
        lib.add(x, self.weight, out, x.numel())
        return out
"""


def flags(*files: tuple[str, str], task: Task = TASK) -> dict[str, list[str]]:
    """Rule to places."""
    sources = tuple(SourceFile(path=path, text=text) for path, text in files)
    found: dict[str, list[str]] = {}
    for flag in screen(Candidate(language="cpp", files=sources), task):
        assert flag.reason
        found.setdefault(flag.rule, []).append(flag.where)
    return found


def in_python(body: str, head: str = "", task: Task = TASK) -> set[str]:
    """Rules that lines in `forward`, or before the class, touch in an honest candidate."""
    lines = "".join(f"        {line}\n" for line in body.splitlines())
    text = MODEL.replace("        return out\n", f"{lines}        return out\n")
    return set(flags(("model.py", text.replace("lib =", f"{head}\nlib =", 1)), task=task))


def in_cpp(text: str, task: Task = TASK) -> set[str]:
    return set(flags(("model.py", MODEL), ("kernel.cpp", text), task=task))


def test_the_honest_candidate_has_no_flag() -> None:
    assert in_python("") == set()


BODIES = [
    ("threads", "import threading\nthreading.Thread(target=print).start()"),
    ("threads", "from os import fork\nfork()"),
    ("threads", "torch.jit.fork(lambda: out)"),
    ("timers", "import time as t\nt.sleep(1)"),
    ("timers", "from time import perf_counter"),
    ("introspection", "import sys\nsys._getframe(1)"),
    ("introspection", "import gc\ngc.get_objects()"),
    ("introspection", "type(self).forward.__code__ = None"),
    ("introspection", "e.__traceback__.tb_frame"),
    ("surroundings", "import os\nos.environ['X']"),
    ("surroundings", "import sys\n'check' in sys.modules"),
    ("surroundings", "import sys\nsys.argv"),
    ("memory", "import ctypes\nctypes.string_at(1, 2)"),
    ("memory", "import mmap"),
    ("files", "open('cache')"),
    ("files", "torch.save(out, 'cache')"),
    ("files", "p = '/dev/shm/x'"),
    ("files", "from pathlib import Path\nPath('x').write_bytes(b'')"),
    ("network", "import urllib.request"),
    ("patching", "torch.allclose = print"),
    ("patching", "torch.Tensor.float = print"),
    ("patching", "import time\ntime.perf_counter = print"),
    ("patching", "setattr(torch, 'equal', print)"),
    ("patching", "out.float = lambda: x"),
    ("patching", "for module in (torch, nn):\n    setattr(module, 'equal', print)"),
    ("tensor_class", "class Lazy(tuple): pass"),
    ("tensor_class", "class Lazy(torch.Tensor): pass"),
    ("tensor_class", "class Lazy:\n    def __torch_function__(self): pass"),
    ("tensor_class", "out.as_subclass(Lazy)"),
    ("identity_cache", "key = (x.data_ptr(), 3)"),
    ("identity_cache", "if x.data_ptr() == 5: pass"),
    ("identity_cache", "self.out.get(id(x))"),
    ("identity_cache", "if x is self.last: return out"),
    ("identity_cache", "x._version"),
    ("shape_cache", "self.outputs[x.shape]"),
    ("kept_state", "self.last = x"),
    ("kept_state", "self.cache['x'] = out"),
    ("kept_state", "self.seen.append(x)"),
    ("kept_state", "type(self).last = x"),
    ("kept_state", "global last\nlast = x"),
    ("counter", "self.calls += 1"),
    ("fallback", "try:\n    lib.add(x)\nexcept Exception:\n    out = torch.relu(x)"),
    ("dynamic_code", "exec('x = 1')"),
    ("dynamic_code", "import base64"),
    ("dynamic_code", "getattr(torch, 'm' + 'm')(x, x)"),
    ("dynamic_code", "getattr(x, ''.join(['m', 'm']))(x)"),
    ("global_state", "torch.set_num_threads(64)"),
    ("global_state", "torch.backends.cuda.matmul.allow_tf32 = True"),
    ("global_state", "torch.set_float32_matmul_precision('medium')"),
    ("global_state", "torch.set_default_dtype(torch.float64)"),
    ("global_state", "torch.set_flush_denormal(True)"),
    ("precision", "x = x.half()"),
    ("precision", "x = x.to(torch.bfloat16)"),
    ("precision", "with torch.autocast('cpu'): pass"),
    ("endings", "import atexit\natexit.register(print)"),
    ("endings", "import os\nos._exit(0)"),
    ("endings", "import signal\nsignal.signal(2, print)"),
    ("harness", "from kernelevolve.evaluation import judge"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "body"), BODIES, ids=lambda v: v.replace("\n", "; "))
def test_what_touches_a_tripwire_in_python(rule: str, body: str) -> None:
    assert rule in in_python(body)


HARMLESS = [
    "x = x.contiguous()",
    "time = x + 1\ny = time * 2",
    "code = x.to(torch.float32)",
    "assert x.dtype is torch.float32",
    "if self.bias is None: pass",
    "with torch.no_grad(): pass",
    "y = self.layers[0](x)",
    "y = getattr(self, '0').weight",
    "sizes = {}\nsizes['n'] = x.shape[0]",
    "total = 0\ntotal += 1",
    "lib.add(x.data_ptr())",
    "y = x.to(torch.float64)",
    "names = []\nnames.append(3)",
    "raise ValueError('open the file /x')",
    "y = torch.compile",
    "x.requires_grad = False",
]


@pytest.mark.parametrize("body", HARMLESS, ids=lambda v: v.replace("\n", "; "))
def test_what_only_looks_alike_in_python(body: str) -> None:
    assert in_python(body) == set()


def test_setting_up_before_the_first_call_is_not_state() -> None:
    head = MODEL.replace(
        "    def forward",
        "    def prepare(self):\n        self.packed = self._fold()\n        self.count = 1\n"
        "        self.count += 1\n"
        "    def _fold(self):\n        self.sizes = {}\n        return 1\n    def forward",
    )
    assert flags(("model.py", head)) == {}


@pytest.mark.parametrize(
    ("rule", "head"),
    [
        ("kept_state", "CACHE = {}\ndef f(x):\n    CACHE[x] = 1"),
        ("kept_state", "KNOWN, ORDER = {}, []\ndef f(x):\n    ORDER.append(x)"),
        ("kept_state", "SEEN = []\ndef f(x):\n    SEEN.append(x)"),
        ("kept_state", "def f(x, cache={}): pass"),
        ("kept_state", "def f(x):\n    f.calls = 1"),
        ("memoising", "import functools\n@functools.lru_cache\ndef f(x): pass"),
        ("timers", "import time"),
        ("fallback", "try:\n    import fast\nexcept ImportError:\n    fast = None"),
        ("dynamic_code", "class Meta(type): pass\nclass A(metaclass=Meta): pass"),
    ],
)
def test_what_touches_a_tripwire_outside_a_class(rule: str, head: str) -> None:
    assert rule in in_python("", head)


def test_a_module_level_table_that_is_only_read_is_no_state() -> None:
    assert in_python("y = TABLE['a']", "TABLE = {'a': 1}") == set()


@pytest.mark.parametrize(
    "update",
    [{"precision": "downcast"}, {"source": REFERENCE.replace("x + self", "x.half() + self")}],
    ids=["the task allows it", "the reference does it"],
)
def test_less_precision_where_it_is_allowed(update: dict[str, str]) -> None:
    task = TASK.model_copy(update=update)
    assert in_python("x = x.half()", task=task) == set()
    assert in_cpp("void f(_Float16 *x) {}", task=task) == set()


NATIVE = [
    ("threads", "void f() { std::thread t(work); }"),
    ("threads", "void f() { pthread_create(&t, 0, work, 0); }"),
    ("threads", "void f() { auto r = std::async(work); }"),
    ("processes", "void f() { if (fork()) return; }"),
    ("processes", "void f() { ptrace(0); process_vm_writev(1); }"),
    ("syscalls", "long f() { return syscall(1); }"),
    ("timers", "void f() { clock_gettime(0, &t); }"),
    ("timers", "auto f() { return std::chrono::steady_clock::now(); }"),
    ("timers", "auto f() { return __rdtsc(); }"),
    ("files", 'void f() { FILE *g = fopen("x", "r"); }'),
    ("files", "void f() { mmap(0, 1, 3, 2, -1, 0); }"),
    ("files", "std::ofstream *g();"),
    ("network", "void f() { socket(1, 2, 3); }"),
    ("loading", 'void f() { dlsym(0, "clock_gettime"); }'),
    ("floating_point_mode", "void f() { fesetround(0); }"),
    ("floating_point_mode", "void f() { _mm_setcsr(0x8040); }"),
    ("endings", "void f() { signal(11, g); }"),
    ("endings", "void f() { atexit(g); }"),
    ("endings", "void f() { _exit(0); }"),
    ("global_state", "void f() { omp_set_num_threads(64); }"),
    ("surroundings", 'void f() { getenv("X"); }'),
    ("library_call", "at::Tensor f(at::Tensor x) { return at::matmul(x, x); }"),
    ("library_call", "void f() { cblas_sgemm(); }"),
    ("assembler", 'void f() { asm volatile("nop"); }'),
    ("constructor", "__attribute__((constructor)) void f() {}"),
    ("interposition", "void *operator new(unsigned long n);"),
    ("token_pasting", "#define CAT(a, b) a##b"),
    ("paths", '#include "/etc/passwd"'),
    ("paths", '#include "../other/kernel.h"'),
    ("paths", 'asm(".incbin \\"x\\"");'),
    ("places", 'const char *p = "/dev/shm/x";'),
    ("precision", "void f(_Float16 *x) {}"),
    ("precision", "auto f(__m512 x) { return _mm512_cvtneps_pbh(x); }"),
    ("precision", "auto f(v16 x) { return __builtin_ia32_rcp14ps512_mask(x, x, -1); }"),
    ("kept_state", "void f() { static float saved[64]; saved[0] = 1; }"),
    ("kept_state", "static const float *first = nullptr;\nvoid f() {}"),
    ("kept_state", "float *last = nullptr;\nvoid f() {}"),
    ("kept_state", "namespace {\nstd::unordered_map<long, float> answers;\n}"),
    ("kept_state", 'extern "C" {\nint calls = 0;\nvoid f() {}\n}'),
    ("kept_state", "void f() { static int calls{0}; }"),
    ("kept_state", "void f() { static std::vector<float> saved(64); }"),
    ("identity_cache", "void f(float *x) { thread_local float *last; if (x == last) return; }"),
    ("identity_cache", "thread_local Key keys[2];\nvoid f(float *x) { if (keys[0].at != x) g(); }"),
    ("counter", "void f() { thread_local int calls; if (calls++ > 3) return; }"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "text"), NATIVE)
def test_what_touches_a_tripwire_in_cpp(rule: str, text: str) -> None:
    assert rule in in_cpp(text)


HARMLESS_NATIVE = [
    "#include <cstdint>\n#include <immintrin.h>\n#include <omp.h>\n#include \"tile.h\"",
    "// fork(); pthread_create\n/* static int calls; */ void f() {}",
    "#pragma omp parallel for\nvoid f() {}",
    "static inline float g(float x) { return x; }\nstatic void h();",
    "static const float TABLE[] = {1, 2, 3};\nconstexpr int N = 4;",
    "static float *const AT = nullptr;\nstatic constexpr const char *NAME = nullptr;",
    "void f() { static const float table[2] = {1, 2}; static constexpr int n = 3; }",
    "struct Tile { float at[4]; static float g(float x) { return x; } int n = 0; };",
    "template <class T> struct A { T x; };\nusing V = float;\ntypedef int I;",
    "enum { A, B };\nextern \"C\" void free(void *);\nextern int other;",
    "void f(float *signal, int times) { for (int i = 0; i < times; ++i) signal[i] = 0; }",
    "void f() { thread_local char *memory; if (!memory) memory = g(); }",
    "void f(Pool &p) { p.open(); p.system(1); p->fork(); }",
    'const char *name = "fork() at /";\n'.replace("const char *name", "constexpr auto name"),
    "typedef _Float16 f16_t;",
    "auto f = [](float x) { return x; };".replace("auto", "constexpr auto"),
    "__device__ float f() { static __shared__ float room[32]; return room[0]; }",
    'void f() { asm volatile("mma.sync.aligned.m16n8k16.row.col" : "+f"(x)); }',
    "float f(float x) { float y{x}; return y == x ? 1 : 2; }",
]  # fmt: skip


@pytest.mark.parametrize("text", HARMLESS_NATIVE)
def test_what_only_looks_alike_in_cpp(text: str) -> None:
    assert in_cpp(text) == set()


COPIED = REFERENCE.replace("Model(", "ModelNew(")


@pytest.mark.parametrize(
    "text",
    [
        COPIED,
        COPIED.replace('    """Adds."""\n\n', ""),
        COPIED.replace("y", "total").replace("tototal", "y"),
        COPIED.replace("def forward(self, x)", "def forward(self, x: torch.Tensor) -> object"),
    ],
    ids=["as it is", "no docstring", "other names", "annotated"],
)
def test_a_resubmitted_reference(text: str) -> None:
    assert set(flags(("model.py", text))) == {"resubmitted", "no_kernel"}


def test_another_computation_in_the_same_form_is_not_the_reference() -> None:
    text = COPIED.replace("torch.relu", "torch.tanh")
    assert set(flags(("model.py", text))) == {"no_kernel"}


def test_a_kernel_that_is_never_called() -> None:
    text = MODEL.replace("lib.add(x, self.weight, out, x.numel())", "torch.add(x, self.weight)")
    assert set(flags(("model.py", text))) == {"unused_kernel"}
    helper = text.replace("class ModelNew", "def helper(x):\n    lib.add(x)\nclass ModelNew")
    assert set(flags(("model.py", helper))) == {"unused_kernel"}


@pytest.mark.parametrize(
    "text",
    [
        MODEL.replace("lib.add(", "run(").replace(
            "class ModelNew", "def run(*given):\n    lib.add(*given)\nclass ModelNew"
        ),
        MODEL.replace("lib.add(", "self.kernel.add(")
        .replace("lib = cpp.load('kernel.cpp')", "")
        .replace("super().__init__()", "super().__init__()\n        self.kernel = lib"),
        MODEL.replace(
            'lib = cpp.load("kernel.cpp")',
            "from torch.utils.cpp_extension import load_inline\nlib = load_inline(name='a')",
        ),
    ],
    ids=["through a function", "through an attribute", "load_inline"],
)
def test_a_kernel_that_is_called_in_a_roundabout_way(text: str) -> None:
    assert flags(("model.py", text)) == {}


def test_lines_of_the_reference_are_no_findings() -> None:
    line = "self.steps += 1"
    task = TASK.model_copy(update={"source": REFERENCE + f"        {line}\n"})
    assert "counter" in in_python(line)
    assert in_python(line, task=task) == set()


def test_a_flag_says_where_and_few_say_enough() -> None:
    text = "x = 1\nimport gc\n" + "gc.collect()\n" * 20
    assert flags(("other.py", text), ("model.py", MODEL)) == {
        "introspection": [f"other.py:{n}" for n in range(2, 2 + MOST)]
    }


@pytest.mark.parametrize(
    "text", ["def :\n", "x = 1\0", "-" * 200_000 + "1", "(" * 5000, "x" + ".y" * 20_000]
)
def test_python_that_cannot_be_read_is_a_flag_and_no_error(text: str) -> None:
    assert flags(("other.py", text), ("model.py", MODEL)) == {"unreadable": ["other.py:1"]}


def test_a_huge_file_is_a_flag() -> None:
    text = "/*" + "x" * LARGEST + "*/"
    assert flags(("kernel.cpp", text), ("model.py", MODEL)) == {"size": ["kernel.cpp:1"]}
