"""Traces a task's Model to core ATen at several size assignments; runs in a process of its own.

`python -m kernelevolve.programmers.builtin.capture < request.json > captures.json`. The only module
of the built-in programmer that imports torch and executes the task's code. The request is
`{source, workloads: [{sizes}], mode}`, or `{program}` (base64) for a live module; the answer is
`{captures: [...], messages: [...]}`; a capture is the traced graph at one assignment. Besides the
workloads, each size is perturbed in turn, and at last all together by one, so that `unify` can
tell which integers of the graph follow which sizes.
"""

from __future__ import annotations

import functools
import inspect
import json
import sys
import warnings
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from typing import Any

import torch
from torch.export.graph_signature import (
    ConstantArgument,
    InputKind,
    OutputKind,
    TensorArgument,
)

from kernelevolve.programmers.builtin.capture_sizes import Unsupported, counts, extent, is_size

DTYPES = {
    torch.float32: "f32", torch.float64: "f64", torch.bfloat16: "bf16", torch.float16: "f16",
    torch.int64: "i64", torch.int32: "i32", torch.int16: "i16", torch.int8: "i8",
    torch.uint8: "u8", torch.bool: "bool",
}  # fmt: skip
TORCH_NAMES = {name: str(dtype).removeprefix("torch.") for dtype, name in DTYPES.items()}
SMALL_CONSTANT = 64
LIFTED = "lifted_tensor_"
"""How export names constants that are no attribute of the module."""
MAX_ELEMENTS = 1 << 28


SKELETON = """
import torch
from torch import nn

def hold(module, path, trained, tensor):
    *parents, name = path.split(".")
    for parent in parents:
        if not hasattr(module, parent):
            module.add_module(parent, nn.Module())
        module = getattr(module, parent)
    if trained:
        module.register_parameter(name, nn.Parameter(tensor, tensor.is_floating_point()))
    else:
        module.register_buffer(name, tensor)

class Model(nn.Module):
    def __init__(self):
        super().__init__()
{holds}

    def forward({arguments}):
        pass
"""
"""What takes the place of the source that a live module does not have."""


def decompositions() -> Any:
    """Core ATen, with norms, softmax and losses broken further into reductions and maps."""
    from torch._decomp import get_decompositions

    aten = torch.ops.aten
    table = torch.export.default_decompositions()
    table.update(  # type: ignore[no-untyped-call]
        get_decompositions(
            [
                aten.native_layer_norm, aten.native_group_norm, aten._softmax, aten._log_softmax,
                aten.nll_loss_forward, aten.mse_loss, aten.smooth_l1_loss, aten.huber_loss,
                aten.binary_cross_entropy, aten.binary_cross_entropy_with_logits, aten.softplus,
                aten.silu, aten.elu, aten.hardswish, aten.hardsigmoid, aten.hardtanh, aten.mish,
                aten.leaky_relu, aten.glu, aten.logsumexp, aten.aminmax, aten.addcmul,
                aten.addcdiv, aten.lerp, aten.linear, aten.celu, aten.threshold, aten.log_sigmoid,
                aten.log_sigmoid_forward, aten.soft_margin_loss, aten.native_dropout, aten.std,
                aten.std_mean, aten.mv, aten.dot, aten.addmv, aten.baddbmm, aten.norm,
                aten.linalg_vector_norm, aten.masked_fill, aten.tril, aten.triu, aten.selu,
                aten.hardshrink, aten.softshrink, aten.rsub, aten.rms_norm, aten.l1_loss,
                aten._native_batch_norm_legit, aten._native_batch_norm_legit_functional,
                aten.native_batch_norm, aten.unfold,
                aten.relu6, aten.log10, aten.frac, aten.xlogy, aten.split, aten.stack,
            ]
        )
    )  # fmt: skip
    return table


@functools.cache
def changed_decompositions() -> tuple[dict[Any, Any], dict[Any, Any]]:
    """Those of composite operators that are not torch's own, and those of all other operators.

    Torch installs a kernel for each composite operator of a table, on a dozen dispatch keys and
    twice for each graph, which takes longer than tracing; all but some forty would be installed
    to do what they do anyway.
    """
    from torch.export.exported_program import _split_decomp_table_to_cia_and_python_decomp

    composite, others = _split_decomp_table_to_cia_and_python_decomp(dict(decompositions()))
    own = {op: f for op, f in composite.items() if not isinstance(f, functools.partial)}
    return own, others


def decomposed(exported: Any) -> Any:
    """`exported.run_decompositions(decompositions())`, in a third of the time."""
    from torch.export.exported_program import _decompose_exported_program

    composite, others = changed_decompositions()
    return _decompose_exported_program(
        exported,
        cia_to_decomp=composite,
        python_decomp_table=dict(others),
        joint_loss_index=None,
        decompose_custom_triton_ops=False,
    )


def encode(value: Any) -> Any:
    """One argument of an operator as JSON."""
    if isinstance(value, torch.fx.Node):
        size = value.meta.get("val")
        return extent(size) if isinstance(size, int | torch.SymInt) else {"ref": value.name}
    if isinstance(value, torch.dtype):
        return {"dtype": DTYPES[value]}
    if isinstance(value, list | tuple):
        return [encode(v) for v in value]
    if isinstance(value, bool | int | str | None):
        return value
    if isinstance(value, float):
        return {"float": repr(value)}
    if isinstance(value, torch.device | torch.layout | torch.memory_format):
        return None
    raise Unsupported(f"an argument of type {type(value).__name__}")


def tensor_type(value: Any) -> Any:
    """Shape and dtype of a traced value; a list for operators with several results."""
    if isinstance(value, torch.Tensor):
        if value.dtype not in DTYPES:
            raise Unsupported(f"dtype {value.dtype}")
        return {"shape": [extent(s) for s in value.shape], "dtype": DTYPES[value.dtype]}
    if isinstance(value, list | tuple):
        return [tensor_type(v) for v in value]
    if value is None:
        return None
    raise Unsupported(f"a value of type {type(value).__name__}")


def graph_of(model: torch.nn.Module, inputs: Sequence[Any]) -> dict[str, Any]:
    """The model traced on `inputs`, as JSON."""
    if any(not isinstance(i, torch.Tensor) for i in inputs):
        raise Unsupported("forward arguments that are not tensors")
    program = torch.export.export(model, tuple(inputs), strict=False)
    return graph_of_program(program, list(inspect.signature(model.forward).parameters))


def graph_of_program(exported: Any, names: Sequence[str]) -> dict[str, Any]:
    """An exported program as JSON; `names` are those of forward's arguments."""
    program = decomposed(exported)
    signature = program.graph_signature
    kinds = {spec.arg.name: spec for spec in signature.input_specs}
    placeholders, nodes, user = [], [], 0
    for node in program.graph.nodes:
        if node.op == "placeholder":
            spec = kinds[node.name]
            source, kind = str(spec.target), spec.kind.name.lower()
            if spec.kind is InputKind.USER_INPUT:
                source, user = names[user], user + 1
            entry = {"name": node.name, "kind": kind, "source": source}
            entry["type"] = tensor_type(node.meta.get("val"))
            if spec.kind is InputKind.CONSTANT_TENSOR:
                entry["values"] = constant_values(program.constants[source])
            placeholders.append(entry)
        elif node.op == "call_function" and not is_size(node):
            nodes.append(
                {
                    "name": node.name,
                    "op": operator_name(node.target),
                    "args": encode(node.args),
                    "kwargs": {key: encode(v) for key, v in node.kwargs.items()},
                    "type": tensor_type(node.meta.get("val")),
                }
            )
    found = results(signature)
    slots = found.pop("slots")
    return {
        "placeholders": placeholders,
        "nodes": nodes,
        "counts": counts(program.graph),
        **found,
        "structure": structure(program, slots),
    }


def operator_name(target: Any) -> str:
    """`aten.add.Tensor`, or `getitem`."""
    return str(target) if isinstance(target, torch._ops.OpOverload) else target.__name__


def constant_values(tensor: torch.Tensor) -> Any:
    """The values of a small constant that the graph holds."""
    if tensor.numel() > SMALL_CONSTANT:
        raise Unsupported("a large tensor constant in forward")
    return [encode(v) for v in tensor.flatten().tolist()]


def results(signature: Any) -> dict[str, Any]:
    """Returned tensors and plain values, a name for the place of each, and what is written back."""
    found: dict[str, Any] = {"outputs": [], "plain": [], "mutations": [], "slots": []}
    for spec in signature.output_specs:
        if spec.kind is OutputKind.BUFFER_MUTATION:
            found["mutations"].append({"name": spec.arg.name, "buffer": str(spec.target)})
        elif spec.kind is not OutputKind.USER_OUTPUT:
            raise Unsupported(f"an output of kind {spec.kind.name}")
        elif isinstance(spec.arg, ConstantArgument):
            found["slots"].append(f"plain{len(found['plain'])}")
            found["plain"].append(plain(spec.arg.value))
        elif not isinstance(spec.arg, TensorArgument):
            raise Unsupported("a returned number that data decide")
        else:
            found["slots"].append(f"result{len(found['outputs'])}")
            found["outputs"].append(spec.arg.name)
    return found


def plain(value: Any) -> Any:
    """A returned value that is no tensor, as JSON."""
    if not isinstance(value, bool | int | float | str | None):
        raise Unsupported(f"a returned value of type {type(value).__name__}")
    return encode(value)


class _Slot:
    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


def structure(program: Any, slots: Sequence[str]) -> str:
    """The tree that forward returns, as Python text over the names in `slots`."""
    spec = program.call_spec.out_spec
    return repr(torch.utils._pytree.tree_unflatten([_Slot(name) for name in slots], spec))


def call_with(function: Callable[..., Any], sizes: Mapping[str, Any]) -> Any:
    """Call with those sizes that `function` has parameters for."""
    accepted = inspect.signature(function).parameters
    return function(**{name: v for name, v in sizes.items() if name in accepted})


def capture_at(module: Mapping[str, Any], sizes: Mapping[str, Any], mode: str | None) -> Any:
    """Build the model at one size assignment and trace it."""
    torch.manual_seed(0)
    init = call_with(module["get_init_inputs"], sizes) if "get_init_inputs" in module else []
    with torch.no_grad():
        model = module["Model"](*init)
        if mode is not None:
            model.train(mode == "train")
        graph = graph_of(model, list(call_with(module["get_inputs"], sizes)))
    graph["arguments"] = integer_arguments(module["Model"], init)
    graph["sizes"] = dict(sizes)
    graph["training"] = model.training
    return graph


def integer_arguments(model: Any, init: Sequence[Any]) -> dict[str, int]:
    """The constructor's integer arguments by parameter name."""
    try:
        bound = inspect.signature(model).bind(*init)
    except (TypeError, ValueError):
        return {}
    return {name: v for name, v in bound.arguments.items() if type(v) is int}


def perturbed(sizes: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Other values for one size, those that keep divisibility first."""
    value = sizes[name]
    return [{**sizes, name: v} for v in (value * 2, value * 3, value + 1) if v != value]


def one_more(module: Mapping[str, Any], sizes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Sizes that halves do not divide: every one larger by one, else those of inputs alone.

    Strided windows round, which sizes that are all even do not show.
    """
    accepted = inspect.signature(module.get("get_init_inputs", lambda: [])).parameters
    whole = [name for name, v in sizes.items() if type(v) is int]
    free = [name for name in whole if name not in accepted]
    wanted = [names for names in (whole, free) if names]
    return [{**sizes, **{name: sizes[name] + 1 for name in names}} for names in wanted]


def volume(sizes: Mapping[str, Any]) -> int:
    """A proxy for how much memory an assignment takes."""
    product = 1
    for value in sizes.values():
        product *= value if isinstance(value, int) and value > 0 else 1
    return product


def capture(request: Mapping[str, Any]) -> dict[str, Any]:
    """Trace at every workload and at perturbed sizes; what fails becomes a message."""
    module: dict[str, Any] = {"__name__": "task"}
    messages: list[str] = []
    captures: list[Any] = []
    exec(compile(request["source"], "task.py", "exec"), module)  # noqa: S102
    mode = request.get("mode")
    workloads = [w["sizes"] for w in request["workloads"]] or [{}]
    for sizes in workloads:
        captures.append(capture_at(module, sizes, mode))
    base = min(workloads, key=volume)
    for name in [n for n, v in base.items() if type(v) is int]:
        for sizes in perturbed(base, name):
            try:
                captures.append(capture_at(module, sizes, mode))
                break
            except Exception as error:  # noqa: BLE001  an odd size may be invalid for the task
                messages.append(f"at {sizes}: {str(error)[:200]}")
    for sizes in one_more(module, base):
        try:
            captures.append(capture_at(module, sizes, mode) | {"odd": True})
            break
        except Exception as error:  # noqa: BLE001  the same
            messages.append(f"at {sizes}: {str(error)[:200]}")
    return {"captures": captures, "messages": messages, "workloads": len(workloads)}


def capture_program(data: bytes) -> dict[str, Any]:
    """The one graph of an exported program, and a class with its parameters and buffers."""
    program = torch.export.load(BytesIO(data))
    count = len(program.graph_signature.user_inputs)
    graph = graph_of_program(program, [f"input{i}" for i in range(count)])
    graph |= {"arguments": {}, "sizes": {}, "training": False}
    for p in graph["placeholders"]:
        if p["kind"] == "constant_tensor":
            p["source"] = f"{LIFTED}{p['name']}"
    state = [p for p in graph["placeholders"] if p["kind"] in ("parameter", "buffer")]
    holds = [
        f"        hold(self, {p['source']!r}, {p['kind'] == 'parameter'}, "
        f"torch.empty({p['type']['shape']}, dtype=torch.{TORCH_NAMES[p['type']['dtype']]}))"
        for p in state
    ]
    arguments = ", ".join(["self", *(f"input{i}" for i in range(count))])
    source = SKELETON.format(holds="\n".join(holds), arguments=arguments)
    return {"captures": [graph], "messages": [], "workloads": 1, "source": source}


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """What `capture` found, or no captures and the reason."""
    try:
        if request.get("program"):
            return capture_program(b64decode(request["program"]))
        return capture(request)
    except Exception as error:  # noqa: BLE001  a task's code may raise anything
        said = str(error).strip().split("\n")[0][:400]
        return {"captures": [], "messages": [f"not captured: {type(error).__name__}: {said}"]}


def main() -> None:
    """Read the request from stdin, answer on the original stdout; task prints go to stderr."""
    answer_to, sys.stdout = sys.stdout, sys.stderr
    warnings.simplefilter("ignore")
    json.dump(answer(json.load(sys.stdin)), answer_to)
    answer_to.flush()


if __name__ == "__main__":
    main()
