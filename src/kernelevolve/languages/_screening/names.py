"""Names in Python that deserve a look, with the reason for each group."""

from kernelevolve.languages._screening.found import Rule

NAMES = (
    Rule(
        "threads",
        "work in another thread or process can outlive the call that is timed",
        (
            "threading", "_thread", "multiprocessing", "concurrent", "subprocess", "asyncio",
            "queue", "sched", "torch.multiprocessing", "torch.futures", "torch.jit.fork",
            "torch.jit._fork", "os.fork", "os.forkpty", "os.system", "os.popen", "os.exec*",
            "os.spawn*", "os.posix_spawn*", "os.kill", "os.killpg", "pty",
        ),
    ),
    Rule(
        "timers",
        "a kernel has no use for a clock; it can tell warm-up from timing with one",
        (
            "time", "timeit", "datetime", "sched", "torch.utils.benchmark", "torch.cuda.Event",
            "resource", "os.times",
        ),
    ),
    Rule(
        "introspection",
        "looks at who calls it, or at objects that were not given to it",
        (
            "inspect", "traceback", "gc", "sys._getframe", "sys._current_frames", "sys.settrace",
            "sys.setprofile", "sys.gettrace", "sys.getprofile", "sys.getrefcount", "tracemalloc",
            "linecache", "dis", "weakref",
        ),
    ),
    Rule(
        "surroundings",
        "looks at its surroundings, by which it could tell a check from a timing",
        (
            "os.environ*", "os.getenv*", "os.putenv", "os.unsetenv", "sys.argv", "sys.orig_argv",
            "sys.modules", "sys.path*", "sys.meta_path", "sys.flags", "os.getpid", "os.getppid",
            "os.uname", "os.getcwd", "os.sched_*", "os.getloadavg", "platform", "psutil",
            "getpass", "pwd", "__main__", "torch.profiler", "torch.autograd.profiler",
        ),
    ),
    Rule(
        "memory",
        "reads or writes memory by address, beyond the tensors that it was given",
        ("ctypes", "_ctypes", "mmap", "cffi", "torch.from_file", "torch.UntypedStorage",
         "numpy.memmap", "numpy.ctypeslib", "multiprocessing.shared_memory"),
    ),
    Rule(
        "files",
        "files can carry answers from one call or process to another",
        (
            "open", "io", "_io", "os.open", "os.read", "os.write", "os.memfd_create", "os.mkfifo",
            "os.pipe*", "os.remove", "os.unlink", "os.rename", "os.listdir", "os.scandir",
            "os.walk", "os.chdir", "shutil", "tempfile", "glob", "shelve", "dbm", "sqlite3",
            "torch.save", "torch.load", "torch.jit.save", "torch.jit.load", "torch.hub",
            "numpy.save*", "numpy.load*", "numpy.fromfile", "numpy.tofile", "fcntl", "fileinput",
        ),
    ),
    Rule(
        "network",
        "there is no network, and no use for one",
        ("socket", "ssl", "urllib", "http", "requests", "httpx", "aiohttp", "ftplib", "smtplib",
         "xmlrpc", "torch.distributed", "torch.hub", "huggingface_hub"),
    ),
    Rule(
        "dynamic_code",
        "hides what it does from a reader",
        (
            "exec", "eval", "compile", "__import__", "globals", "locals", "vars", "builtins",
            "importlib", "imp", "runpy", "code", "base64", "binascii", "marshal", "pickle", "dill",
            "cloudpickle", "codecs", "zlib", "bz2", "lzma", "types.CodeType", "types.FunctionType",
            "torch.package", "operator.attrgetter", "operator.methodcaller",
        ),
    ),
    Rule(
        "endings",
        "runs code when the process ends or is interrupted, or ends it",
        ("atexit", "signal", "faulthandler", "sys.exit", "os._exit", "os.abort", "exit", "quit",
         "weakref.finalize", "sys.excepthook", "sys.unraisablehook"),
    ),
    Rule(
        "global_state",
        "changes a setting of the whole process, for whatever runs after it",
        (
            "torch.set_num_threads", "torch.set_num_interop_threads", "torch.set_default_*",
            "torch.set_float32_matmul_precision", "torch.set_flush_denormal",
            "torch.set_deterministic*", "torch.use_deterministic_algorithms",
            "torch.set_grad_enabled", "torch.set_rng_state", "torch.manual_seed", "torch.seed",
            "torch.random.*seed", "torch.random.set_rng_state", "torch._C._set_*",
            "torch.set_warn_always", "torch.backends.*.set_flags", "torch.backends.*.flags",
            "torch.set_anomaly_enabled", "numpy.seterr", "numpy.random.seed", "random.seed",
            "torch._inductor.config", "torch._dynamo.config", "sys.setrecursionlimit",
            "sys.setswitchinterval", "os.nice", "os.setpriority", "resource.setrlimit",
        ),
    ),
    Rule(
        "tensor_class",
        "tensors that compute when they are read do their work after the clock has stopped",
        ("torch.overrides", "torch.utils._python_dispatch", "torch.utils._pytree",
         "torch.Tensor._make_subclass", "torch.Tensor._make_wrapper_subclass", "torch.fx",
         "torch._subclasses", "torch.Tensor.as_subclass", "torch.library"),
    ),
    Rule(
        "memoising",
        "keeps answers from one call to the next",
        ("functools.lru_cache", "functools.cache", "functools.cached_property", "joblib"),
    ),
    Rule(
        "harness",
        "uses the harness that judges it",
        ("kernelevolve.[!r]*", "kernelevolve.registry", "kernelevolve.reporters",
         "kernelevolve.results"),
    ),
)  # fmt: skip
"""Imports and uses alike."""

ATTRIBUTES = {
    "introspection": (
        "reaches into functions, frames or classes",
        {
            "__code__", "__globals__", "__closure__", "__builtins__", "__subclasses__", "__bases__",
            "__mro__", "f_back", "f_locals", "f_globals", "f_code", "tb_frame", "gi_frame",
            "__self__", "__wrapped__", "__class__", "__dict__",
        },
    ),
    "identity_cache": (
        "the version of a tensor is of use to a cache only",
        {"_version"},
    ),
    "files": (
        "files can carry answers from one call or process to another",
        {"read_text", "read_bytes", "write_text", "write_bytes", "tofile", "share_memory_"},
    ),
    "tensor_class": (
        "makes a tensor of another class",
        {"as_subclass", "_make_subclass", "__torch_function__", "__torch_dispatch__"},
    ),
}  # fmt: skip
"""Attributes of whatever object."""

PATHS = {
    "files": (
        "names a place outside its own folder",
        ("/dev/", "/tmp", "/proc", "/sys/", "/etc/", "/home", "/root", "/var/", "/run/"),
    ),
}
"""Beginnings of texts."""

METHODS = {
    "__torch_function__": "tensor_class",
    "__torch_dispatch__": "tensor_class",
    "__del__": "endings",
    "__getattribute__": "dynamic_code",
    "__eq__": "dynamic_code",
    "__array__": "tensor_class",
}
"""Special methods that a kernel has no use for, and the rule that each touches."""
