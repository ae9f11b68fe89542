"""What a module may leave changed in its process, as text. Runs in runners only.

The judge compares two of these; a runner that lies here gains nothing, because what a changed
flag does to the numbers is verified, and no other candidate or baseline shares the process.
"""

import ctypes
import locale
import os
import platform
import signal
import struct
import sys

import numpy as np
import torch

INFLUENTIAL = ("OMP_", "GOMP_", "KMP_", "MKL_", "DNNL_", "ONEDNN_", "OPENBLAS_", "ATEN_")
DRIVERS = ("LD_", "PYTHON", "MALLOC_", "GLIBC_")
LIBM = ctypes.CDLL(None)
STICKY = 0x3F
"""Bits of MXCSR that tell what happened, not what is to happen."""


def snapshot() -> dict[str, str]:
    """Asked for before a module is loaded and after its calls."""
    return _torch() | _process()


def _torch() -> dict[str, str]:
    return {
        "threads": str(torch.get_num_threads()),
        "default dtype": str(torch.get_default_dtype()),
        "default device": str(torch.get_default_device()),
        "matmul precision": f"{torch.get_float32_matmul_precision()}, "
        f"tf32 {torch.backends.cuda.matmul.allow_tf32}",
        "deterministic algorithms": str(torch.are_deterministic_algorithms_enabled()),
        "grad mode": f"{torch.is_grad_enabled()}, inference {torch.is_inference_mode_enabled()}",
        "autocast": f"{torch.is_autocast_enabled('cpu')}, {torch.is_autocast_enabled('cuda')}",
        "backends": _backends(),
        "torch modes": f"{_modes('function')} of functions, {_modes('dispatch')} of dispatch",
        "floating-point modes": floating_point(),
    }


def _modes(kind: str) -> int:
    """How many modes that take over every torch call are active."""
    count: int = getattr(torch._C, f"_len_torch_{kind}_stack")()
    return count


def _backends() -> str:
    backends = torch.backends
    found = {
        "mkldnn": backends.mkldnn.enabled,
        "nnpack": getattr(backends.nnpack, "enabled", ""),
        "quantized": backends.quantized.engine,
        "flash attention": torch._C._get_flash_sdp_enabled(),
        "math attention": torch._C._get_math_sdp_enabled(),
        "tf32 in cudnn": backends.cudnn.allow_tf32,
        "cudnn": f"{backends.cudnn.enabled} {backends.cudnn.benchmark}",
        "narrow sums of float16": backends.cuda.matmul.allow_fp16_reduced_precision_reduction,
        "narrow sums of bfloat16": backends.cuda.matmul.allow_bf16_reduced_precision_reduction,
    }
    return ", ".join(f"{name} {value}" for name, value in found.items())


def floating_point() -> str:
    """Rounding and treatment of denormals in this thread."""
    environment = ctypes.create_string_buffer(64)
    LIBM.fegetenv(environment)
    if platform.machine() == "x86_64":
        (control,) = struct.unpack_from("=H", environment, 0)
        (mxcsr,) = struct.unpack_from("=I", environment, 28)
        return f"mxcsr {mxcsr & ~STICKY:#x}, x87 {control:#x}"
    (control,) = struct.unpack_from("=I", environment, 0)
    return f"{control:#x}"


def _process() -> dict[str, str]:
    influential = {k: v for k, v in os.environ.items() if k.startswith(INFLUENTIAL + DRIVERS)}  # noqa: TID251
    other = {k: v for k, v in os.environ.items() if k not in influential}  # noqa: TID251
    return {
        "environment of libraries": repr(sorted(influential.items())),
        "environment": repr(sorted(other.items())),
        "import path": repr(sys.path),
        "import hooks": repr([type(hook).__name__ for hook in sys.meta_path]),
        "tracing": f"{sys.gettrace() is not None}, {sys.getprofile() is not None}",
        "numpy errors": repr(sorted(np.geterr().items())),
        "signal handlers": repr(_handlers()),
        "alarm": repr([t > 0 for t in signal.getitimer(signal.ITIMER_REAL)]),
        "locale": locale.setlocale(locale.LC_ALL),
        "processors": repr(sorted(os.sched_getaffinity(0))),
        "umask": _umask(),
    }


def _handlers() -> list[str]:
    valid = sorted(signal.valid_signals())
    handlers = {number: signal.getsignal(number) for number in valid}
    return [f"{n}: {getattr(h, '__name__', h)}" for n, h in handlers.items() if h]


def _umask() -> str:
    mask = os.umask(0o077)
    os.umask(mask)
    return oct(mask)
