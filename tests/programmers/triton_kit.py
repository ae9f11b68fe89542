"""Compares what is written in Triton with torch, interpreted, or compiles it for a device.

Whether Triton interprets is decided before it is imported, for a whole process: this is one.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from triton import compile as compile_kernel
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime import interpreter
from triton.runtime.jit import JITFunction

from kernelevolve.programmers.builtin.capture import call_with
from kernelevolve.programmers.builtin.render import render
from kernelevolve.programmers.builtin.schedule import Plan
from kernelevolve.runtime.tiles.driver import needs_of, patch_tensor

from .conftest import HEAD, captured, compared, loaded

TYPES = {
    torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16", torch.float64: "fp64",
    torch.int64: "i64", torch.int32: "i32", torch.int16: "i16", torch.int8: "i8",
    torch.uint8: "u8", torch.bool: "i1",
}  # fmt: skip
TARGET = GPUTarget("cuda", 90, 32)
SETTINGS = ("num_warps", "num_stages", "maxnreg")


def compare(asked: dict[str, Any]) -> Any:
    """The candidate's text, after the comparison."""
    interpreter._patch_lang_tensor = patch_tensor
    made = compared(Path(asked.pop("folder")), language="triton", **asked)
    return {"model": made.files["model.py"], "left": made.message, "all": made.fallback}


def compile_all(asked: dict[str, Any]) -> Any:
    """Every kernel that forward launches, compiled for the device and not run."""
    source, found = HEAD + asked["body"], []
    model = replace(captured(source, asked["workloads"], asked["mode"]), language="triton")
    new_class = loaded(render(model, asked["plan"]), Path(asked["folder"]))
    task: dict[str, Any] = {}
    exec(source, task)  # noqa: S102

    def launched(kernel: Any, grid: Any) -> Any:
        def run(*given: Any, **named: Any) -> None:
            built = compiled(kernel, given, named)
            resources = {"name": kernel.__name__, "shared": built.metadata.shared}
            resources["stack"] = needs_of(built.asm["cubin"])[1]
            found.append(resources | {"ptx": built.asm["ptx"]} if asked["unseen"] else resources)

        return run

    JITFunction.__getitem__ = launched  # type: ignore[method-assign]
    torch.empty = torch.zeros  # what kernels that do not run would count is nothing
    for sizes in asked["workloads"]:
        init = call_with(task["get_init_inputs"], sizes) if "get_init_inputs" in task else []
        new = new_class(*init)
        if asked["mode"]:
            new.train(asked["mode"] == "train")
        with torch.no_grad():
            new(*call_with(task["get_inputs"], sizes))
    return found


def compiled(kernel: Any, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """One kernel with these arguments."""
    options = {k: named.pop(k) for k in SETTINGS if k in named}
    values = dict(zip(kernel.arg_names, given, strict=False)) | named
    signature: dict[str, str] = {}
    constants: dict[Any, Any] = {}
    even: dict[Any, Any] = {}
    for place, parameter in enumerate(kernel.params):
        value = values[parameter.name]
        if parameter.is_constexpr or (isinstance(value, int) and value == 1):
            signature[parameter.name], constants[(place,)] = "constexpr", value
        elif isinstance(value, torch.Tensor):
            signature[parameter.name] = f"*{TYPES[value.dtype]}"
            even[(place,)] = [["tt.divisibility", 16]]
        else:
            signature[parameter.name] = "i32" if isinstance(value, int) else "fp32"
            if isinstance(value, int) and value % 16 == 0:
                even[(place,)] = [["tt.divisibility", 16]]
    return compile_kernel(
        ASTSource(kernel, signature, constants, even), target=TARGET, options=options
    )


def main() -> None:
    """What is asked comes as JSON, and so does the answer."""
    asked: dict[str, Any] = json.load(sys.stdin)
    asked["plan"] = Plan.model_validate(asked["plan"])
    answer = compare if sys.argv[1] == "compare" else compile_all
    sys.stdout.write(json.dumps(answer(asked)))


if __name__ == "__main__":
    main()
