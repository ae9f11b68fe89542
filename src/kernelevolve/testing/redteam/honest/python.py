"""Honest kernels in Python: usual ones, and some that a nervous harness would reject."""

from kernelevolve.testing.redteam.record import Honest


def forward(name: str, task: str, does: str, body: str, arguments: str = "x") -> Honest:
    """A module without parameters."""
    lines = "\n".join(f"        {line}" for line in body.strip("\n").splitlines())
    model = f"class ModelNew(nn.Module):\n    def forward(self, {arguments}):\n{lines}"
    return Honest(name=name, task=task, does=does, model=model)


TABLE = (
    forward(
        "library-call",
        "softmax",
        "Calls what the reference calls.",
        "return torch.softmax(x, -1)",
    ),
    forward(
        "own-formula",
        "softmax",
        "Subtracts the maximum, takes exponentials, divides.",
        "e = torch.exp(x - x.amax(-1, True))\nreturn e / e.sum(-1, True)",
    ),
    forward(
        "double-accumulation",
        "softmax",
        "Computes in float64 and rounds once.",
        "return torch.softmax(x.double(), -1).float()",
    ),
    forward(
        "logarithms",
        "softmax",
        "Takes the exponential of log_softmax.",
        "return torch.log_softmax(x.double(), -1).exp().float()",
    ),
    forward(
        "transposed-output",
        "softmax",
        "Returns a transposed tensor with the right shape and values.",
        "return torch.softmax(x.t().contiguous(), 0).t()",
    ),
    forward(
        "view-of-its-own-buffer",
        "softmax",
        "Returns a view of a larger tensor that it made in this call.",
        "out = x.new_empty(len(x) + 3, x.shape[1] + 5)\n"
        "view = out[2:-1, 1:-4]\n"
        "view.copy_(torch.softmax(x, -1))\n"
        "return view",
    ),
    forward(
        "row-by-row",
        "softmax",
        "Loops over the rows in Python.",
        "return torch.stack([torch.softmax(row, -1) for row in x])",
    ),
    forward(
        "in-place-on-its-own",
        "relu",
        "Copies the input and works in place on the copy.",
        "return x.clone().relu_()",
    ),
    forward(
        "clamp",
        "relu",
        "Says it in another way.",
        "return x.clamp_min(0)",
    ),
    forward(
        "early-exit",
        "relu",
        "Skips the work where all inputs are zero, which is right for all inputs.",
        "return x.new_zeros(x.shape) if not x.any() else torch.relu(x)",
    ),
    forward(
        "tuple-as-a-namedtuple-of-tensors",
        "chain",
        "Returns exactly a tuple, with a mean taken from the sums.",
        "total = torch.cumsum(x.double(), -1)\nreturn total.float(), total.mean(-1).float()",
    ),
    forward(
        "blocked-sums",
        "chain",
        "Cumulates in blocks and carries the sums over.",
        "blocks = torch.cumsum(x.view(len(x), 8, 10), -1)\n"
        "carry = F.pad(torch.cumsum(blocks[..., :-1, -1], -1), (1, 0))\n"
        "total = (blocks + carry[..., None]).view(x.shape)\n"
        "return total, total.mean(-1)",
    ),
    forward(
        "dict-in-order",
        "argmax",
        "Takes indices from max, and the sign from a comparison.",
        'return {"index": x.max(-1).indices, "positive": torch.gt(x, 0)}',
    ),
    forward(
        "other-order-of-products",
        "matmul",
        "Multiplies the transposed matrices.",
        "return (w.t() @ x.t()).t() + b",
        "x, w, b",
    ),
    forward(
        "split-sums",
        "matmul",
        "Sums the products of two halves.",
        "return x[:, :32] @ w[:32] + x[:, 32:] @ w[32:] + b",
        "x, w, b",
    ),
    forward(
        "bias-first",
        "matmul",
        "Starts from the bias with addmm.",
        "return torch.addmm(b, x, w)",
        "x, w, b",
    ),
    forward(
        "allowed-downcast",
        "downcast",
        "Multiplies in bfloat16, which the task allows.",
        "return (x.bfloat16() @ w.bfloat16()).float()",
        "x, w",
    ),
    forward(
        "any-size",
        "sizes",
        "Serves every size, large ones in pieces.",
        "parts = [F.silu(p) * p.sum(-1, True) for p in x.split(32)]\nreturn torch.cat(parts)",
    ),
    forward(
        "repeatable",
        "repeats",
        "Gives the same bits for the same inputs.",
        "return torch.softmax(x, -1)",
    ),
    Honest(
        name="packed-weights",
        task="linear",
        does="Transposes the weights once, in prepare().",
        model="""
            class ModelNew(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.linear = nn.Linear(64, 48)

                def prepare(self):
                    self.packed = self.linear.weight.detach().t().contiguous()

                def forward(self, x):
                    return torch.addmm(self.linear.bias, x, self.packed)
        """,
    ),
    Honest(
        name="parameters-of-its-own",
        task="linear",
        does="Declares the parameters under other names, in the same order.",
        model="""
            class ModelNew(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.w = nn.Parameter(torch.empty(48, 64))
                    self.b = nn.Parameter(torch.empty(48))

                def forward(self, x):
                    return x @ self.w.t() + self.b
        """,
    ),
    Honest(
        name="folded-normalisation",
        task="norm_gelu",
        does="Computes the normalisation by hand from mean and variance.",
        model="""
            class ModelNew(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.norm = nn.LayerNorm(96)

                def forward(self, x):
                    y = x - x.mean(-1, True)
                    y = y * torch.rsqrt(y.square().mean(-1, True) + 1e-5)
                    return F.gelu(y * self.norm.weight + self.norm.bias)
        """,
    ),
    Honest(
        name="workspace",
        task="softmax",
        does="Keeps a workspace between calls, which every call writes before it reads.",
        model="""
            class ModelNew(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.work = None

                def forward(self, x):
                    if self.work is None or self.work.shape != x.shape:
                        self.work = x.new_empty(x.shape)
                    torch.sub(x, x.amax(-1, True), out=self.work)
                    self.work.exp_()
                    return self.work / self.work.sum(-1, True)
        """,
    ),
    Honest(
        name="lazily-compiled",
        task="relu",
        does="Traces itself with torch.jit at its first call.",
        model="""
            class ModelNew(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.traced = None

                def forward(self, x):
                    if self.traced is None:
                        self.traced = torch.jit.script(relu)
                    return self.traced(x)

            def relu(x):
                return torch.relu(x)
        """,
    ),
    Honest(
        name="thread-pool",
        task="relu",
        does="Keeps a pool of Python threads and waits for their work in every call.",
        model="""
            from concurrent.futures import ThreadPoolExecutor
            pool = ThreadPoolExecutor(2)

            class ModelNew(nn.Module):
                def forward(self, x):
                    out = x.new_empty(x.shape)
                    def part(rows):
                        torch.relu(x[rows]), out[rows].copy_(torch.relu(x[rows]))
                    list(pool.map(part, (slice(0, 32), slice(32, 64))))
                    return out
        """,
    ),
    Honest(
        name="autograd-function",
        task="backward",
        does="Has a forward and a backward of its own.",
        model="""
            class Tanh(torch.autograd.Function):
                @staticmethod
                def forward(ctx, x):
                    y = torch.tanh(x)
                    ctx.save_for_backward(y)
                    return y

                @staticmethod
                def backward(ctx, given):
                    y, = ctx.saved_tensors
                    return given - given * y * y

            class ModelNew(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.linear = nn.Linear(24, 16)

                def forward(self, x):
                    return Tanh.apply(self.linear(x))
        """,
    ),
    Honest(
        name="running-statistics",
        task="batchnorm",
        does="Updates the statistics by hand.",
        model="""
            class ModelNew(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.norm = nn.BatchNorm1d(24)

                def forward(self, x):
                    norm = self.norm
                    var, mean = torch.var_mean(x, 0, correction=0)
                    with torch.no_grad():
                        norm.running_mean.lerp_(mean, 0.1)
                        norm.running_var.lerp_(var * (len(x) / (len(x) - 1)), 0.1)
                        norm.num_batches_tracked += 1
                    return (x - mean) * torch.rsqrt(var + 1e-5) * norm.weight + norm.bias
        """,
    ),
    Honest(
        name="restores-what-it-changes",
        task="softmax",
        does="Switches gradients and a flag off for its own work and puts both back.",
        model="""
            class ModelNew(nn.Module):
                def forward(self, x):
                    before = torch.get_float32_matmul_precision()
                    torch.set_float32_matmul_precision("high")
                    with torch.no_grad():
                        out = torch.softmax(x, -1)
                    torch.set_float32_matmul_precision(before)
                    return out
        """,
    ),
)
