"""Tripwires in C++, over tokens: no preprocessor, no types."""

import re
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from kernelevolve.languages._screening.found import Found

CALLS = {
    "threads": (
        "work in another thread can outlive the call that is timed",
        r"pthread_\w+|std::j?thread|std::async|thrd_create|c10::ThreadPool|at::launch"
        r"|std::future|std::promise|std::packaged_task|tbb::\w+|dispatch_async|clone3?",
    ),
    "processes": (
        "another process is not watched by the clock of this one",
        r"v?fork|system|popen|exec[lv]p?e?|execvpe|posix_spawnp?|kill|tgkill|raise|ptrace"
        r"|process_vm_\w+|waitpid|wait4|prctl|setns|unshare|seccomp",
    ),
    "syscalls": (
        "system calls by number hide what they are",
        r"syscall|__NR_\w+|SYS_\w+|io_uring_\w+",
    ),
    "timers": (
        "a kernel has no use for a clock; it can tell warm-up from timing with one",
        r"clock_gettime|clock_nanosleep|gettimeofday|clock|times|getrusage|std::chrono(::\w+)*"
        r"|_{0,2}rdtscp?|__builtin_ia32_rdtscp?|_rdpmc|nanosleep|usleep|sleep|sleep_for|sleep_until"
        r"|setitimer|timer_create|timerfd_create|alarm|perf_event_open|PAPI_\w+",
    ),
    "files": (
        "files can carry answers from one call or process to another",
        r"f(re|d)?open|openat2?|creat|open|mmap(64)?|mremap|shm_open|shmget|shmat|memfd_create|sem_open"
        r"|mkfifo|std::[iow]?fstream|std::[io]fstream|std::filesystem(::\w+)*|readlink|opendir|dlinfo"
        r"|unlink|mprotect|pkey_mprotect",
    ),
    "network": (
        "there is no network, and no use for one",
        r"socket|connect|bind|sendto|recvfrom|getaddrinfo",
    ),
    "loading": (
        "reaches into other libraries of the process",
        r"dlm?open|dlv?sym|dl_iterate_phdr|dladdr1?|_r_debug|link_map|RTLD_\w+|__libc_\w+|_dl_\w+"
        r"|Py(Object|Run|Import|Eval|Frame|GILState|Dict|Module|Sys)_\w+|py::\w+|pybind11::\w+",
    ),
    "floating_point_mode": (
        "changes rounding or denormals for whatever runs after it in this process",
        r"fesetround|fesetenv|feholdexcept|feupdateenv|fesetexceptflag|_mm_setcsr|_MM_SET_\w+"
        r"|__builtin_ia32_ldmxcsr|_controlfp\w*|_MM_FROUND\w+_SET|__fpsetmask",
    ),
    "endings": (
        "runs code on signals or when the process ends, or ends it",
        r"signal|sigaction|sigqueue|sigprocmask|sigsetjmp|siglongjmp|longjmp|atexit|at_quick_exit|on_exit"
        r"|_?_?exit|_Exit|quick_exit|std::exit|std::abort|abort|std::terminate|std::set_terminate"
        r"|__cxa_atexit|__cxa_thread_atexit",
    ),
    "global_state": (
        "changes a setting of the whole process, for whatever runs after it",
        r"omp_set_\w+|kmp_set_\w+|at::set_num_threads|at::globalContext|torch::set_num_threads"
        r"|mkl_set_\w+|openblas_set_\w+|set_new_handler|std::set_new_handler|setlocale|setrlimit"
        r"|mallopt|__malloc_hook|__free_hook|setpriority|nice|sched_set\w+|pthread_setaffinity_np|sbrk|brk",
    ),
    "surroundings": (
        "looks at its surroundings, by which it could tell a check from a timing",
        r"(secure_)?getenv|setenv|putenv|environ|__environ|getpid|getppid|gettid|getauxval|getcwd|uname"
        r"|gethostname|program_invocation_\w+|backtrace|_Unwind_\w+|__builtin_return_address"
        r"|__builtin_frame_address|malloc_usable_size|mincore|malloc_info|mallinfo2?",
    ),
    "library_call": (
        "a library computes it",
        r"(at|torch)::(mm|bmm|matmul|addmm|linear|conv\w*|einsum|softmax|log_softmax|layer_norm"
        r"|scaled_dot_product_attention|_\w+)|cblas_\w+|dnnl(::\w+|_\w+)|mkl_\w+|[sd]gemm_",
    ),
}  # fmt: skip
"""Rule to reason and names, each matched as a whole word."""

PTX = r"(wgmma|mma|ldmatrix|stmatrix|cp|mbarrier|fence|setmaxnreg)\."
"""What GPU kernels have no other words for."""
SHAPES = {
    "assembler": (
        "assembler hides what it does",
        ("asm",),
        re.compile(rf'\b(asm|__asm|__asm__)\b(?!\s*(volatile\s*)?\(\s*"{PTX})'),
    ),
    "constructor": (
        "runs when the library is loaded, before anybody asked",
        ("structor", "init", "fini", "ifunc"),
        re.compile(r"\b(constructor|destructor|init_priority|ifunc|init_array|fini_array)\b"),
    ),
    "interposition": (
        "takes the place of another function of the process",
        ("operator", "alias", "weak", "symver"),
        re.compile(r"\boperator\s+(new|delete)\b|\b(alias|weak|weakref|symver)\s*\(|#\s*pragma\s+weak"),
    ),
    "token_pasting": ("pasted tokens hide names", ("##",), re.compile(r"#\s*define\b.*##")),
    "paths": (
        "reads a file outside the candidate",
        ("include", "embed", ".incbin"),
        re.compile(r'#\s*(include|embed)\s*["<]\s*(/|[^">]*\.\.)|\.incbin|__has_(include|embed)\s*\(\s*["<]/'),
    ),
    "places": (
        "names a place outside its own folder",
        ('"/',),
        re.compile(r'"(/dev/|/tmp|/proc|/sys/|/etc/|/home|/root|/var/|/run/)'),
    ),
}  # fmt: skip
"""Rule to reason, to texts without which it need not be looked for, and to a pattern. Comments are
blanked and quoted texts kept."""

AMBIGUOUS = frozenset(
    ["alarm", "abort", "bind", "brk", "clock", "clone", "connect", "environ", "exit", "kill"]
    + ["nice", "open", "raise", "signal", "sleep", "socket", "system", "times", "uname"]
)
"""Ordinary words too: they count where they are called, or where their address is taken."""

_TOKEN = re.compile(r"(?<![\w.])(?<!->)(?:::)?([A-Za-z_]\w*(?:::[A-Za-z_]\w*)*)")
_RULE = re.compile("|".join(f"(?P<{rule}>{names})" for rule, (_, names) in CALLS.items()))
_COMMENT_OR_TEXT = re.compile(
    r"//(?:\\\n|[^\n])*|/\*.*?\*/|R\"(?P<tag>[^(\s\\]{0,16})\(.*?\)(?P=tag)\""
    r"|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n]){1,8}'",
    re.DOTALL,
)
_PER_THREAD = re.compile(r"\b(thread_local|__thread)\b")
_STATIC = re.compile(r"\b(static|thread_local|__thread)\b")
_NAMED = re.compile(r"^[^()]*\w\s*(\[[^\]]*\])?\s*$")
_CONSTANT = re.compile(r"\b(const|constexpr|consteval|constinit)\b")
_DECLARES = re.compile(
    r"\b(using|typedef|struct|class|enum|union|template|namespace|friend|static_assert|operator"
    r"|extern|return|goto|case|public|private|protected|concept|requires)\b|^\s*#|__attribute__"
)
_NAME = re.compile(r"([A-Za-z_]\w*)\s*(?:\[[^\]]*\]\s*)*(?:=|\{|\(|;|,|$)")


class Variable(NamedTuple):
    """Something that outlives a call and can be changed."""

    name: str
    line: int
    per_thread: bool
    """Memory to work in, as a rule: it is no finding until it is compared or counted."""


def findings(text: str) -> Iterator[Found]:
    """Everything in one file."""
    code, quoted = _blanked(text, texts=True), _blanked(text, texts=False)
    for match in _TOKEN.finditer(code):
        rule = rule_of(match[1])
        if rule and (match[1] not in AMBIGUOUS or _called(code, match)):
            yield Found(rule, f"{match[1]}: {CALLS[rule][0]}", _line(code, match.start()))
    for rule, (reason, hints, pattern) in SHAPES.items():
        for match in pattern.finditer(quoted) if any(h in quoted for h in hints) else ():
            place = _line(quoted, match.start())
            yield Found(rule, f"{match[0].strip()[:40]}: {reason}", place)
    variables = list(lasting(code))
    for variable in variables:
        if not variable.per_thread:
            text = f"{variable.name}: a variable that outlives the call and can be changed"
            yield Found("kept_state", text, variable.line)
    if variables:
        yield from _uses(code, {variable.name for variable in variables})


@cache
def rule_of(name: str) -> str | None:
    """The rule that a name touches."""
    match = _RULE.fullmatch(name)
    return match.lastgroup if match else None


def _called(code: str, match: re.Match[str]) -> bool:
    before, after = code[: match.start()].rstrip()[-1:], code[match.end() :].lstrip()[:1]
    return after == "(" or before == "&"


def _uses(code: str, names: set[str]) -> Iterator[Found]:
    """What is compared with a lasting variable may be an address, what it counts the calls."""
    words = "|".join(map(re.escape, sorted(names)))
    place = rf"\b({words})\b(?:\[[^\]]*\])?(?:(?:\.|->)\w+)*"
    compared = re.compile(rf"{place}\s*[=!]=|[=!]=\s*&?{place}")
    counted = re.compile(rf"{place}\s*(?:\+\+|--|[+-]=)|(?:\+\+|--)\s*{place}")
    for match in compared.finditer(code):
        text = f"compared with {match[1] or match[2]}, which an earlier call may have set"
        yield Found("identity_cache", text, _line(code, match.start()))
    for match in counted.finditer(code):
        text = f"{match[1] or match[2]} counts calls: the first ones may differ from the rest"
        yield Found("counter", text, _line(code, match.start()))


def _line(code: str, position: int) -> int:
    return code.count("\n", 0, position) + 1


def lasting(code: str) -> Iterator[Variable]:
    """Mutable variables with static storage: local ones, members, and those of a namespace.

    Args:
        code: without comments, texts and line continuations.
    """
    code = _without_directives(code)
    blocks: list[str] = []
    statement, began, inner = "", 0, 0
    for match in re.finditer(r"[{};]", code):
        statement += code[began : match.start()]
        began = match.end()
        if match[0] == "{" and (inner or _initialises(statement)):
            inner += 1
        elif match[0] == "}" and inner:
            inner -= 1
        elif match[0] == "{":
            blocks.append(_kind(statement))
            statement = ""
        elif match[0] == "}":
            blocks = blocks[:-1]
            statement = ""
        elif not inner:
            name = _lasting_name(statement, blocks)
            if name:
                per_thread = bool(_PER_THREAD.search(statement))
                yield Variable(name, _line(code, match.start()), per_thread)
            statement = ""


def _initialises(statement: str) -> bool:
    """Whether a brace after it opens a value."""
    if statement.rstrip().endswith(("=", ",", "(", "{")):
        return True
    return bool(_STATIC.search(statement) and _NAMED.search(statement))


def _kind(statement: str) -> str:
    """What a block is: `namespace`, `type` or `code`."""
    if re.search(r"\bnamespace\b[^()]*$|\bextern\s*\"?[^()=]*$", statement):
        return "namespace"
    if re.search(r"\b(struct|class|union|enum)\b[^()]*$", statement):
        return "type"
    return "code"


def _lasting_name(statement: str, depth: list[str]) -> str | None:
    """The variable that a statement declares, where it lasts and can be changed."""
    text = statement.strip()
    static = _STATIC.search(text)
    at_namespace = all(kind == "namespace" for kind in depth)
    head = text.partition("=")[0]
    if not text or not (static or at_namespace) or _constant(head) or "__shared__" in head:
        return None
    if _DECLARES.search(head) or (not static and "(" in head):
        return None
    if static and "(" in head and (at_namespace or depth[-1] == "type"):
        return None
    match = _NAME.search(re.sub(r"<[^<>]*>", "", re.sub(r"<[^<>]*>", "", text)))
    return match[1] if match and len(text.split()) > 1 else None


def _constant(head: str) -> bool:
    """Whether what is declared cannot be changed; a pointer to something constant can."""
    if "*" in head and "constexpr" not in head:
        return bool(re.search(r"\*\s*const\b[^*]*$", head))
    return bool(_CONSTANT.search(head))


def _without_directives(code: str) -> str:
    """The same with preprocessor lines blanked."""
    return re.sub(r"(?m)^[ \t]*#(?:\\\n|[^\n])*", lambda m: "\n" * m[0].count("\n"), code)


def _blanked(text: str, *, texts: bool) -> str:
    """Comments, and with `texts` quoted texts too, as spaces; lines stay where they are."""

    def blank(match: re.Match[str]) -> str:
        word = match[0]
        if not word.startswith("/") and not texts:
            return word
        lines = word.count("\n")
        return "\n" * lines if lines else ('""' if word[0] in '"R' else " ")

    joined = re.sub(r"\\\n", " \n", text) if texts else text
    return _COMMENT_OR_TEXT.sub(blank, joined)
