"""What is known to get past: kernels that a user would not want, judged OK all the same.

They are no failures of a machine, and `docs/trust.md` says of each why it is left. One that is
caught some day belongs into `exploits/`.
"""

from kernelevolve.testing.redteam.exploits._parts import FRAMES
from kernelevolve.testing.redteam.record import Limit

TASKS = {
    "ramp": """
        class Model(nn.Module):
            def forward(self, x):
                y = x * 0.625 - 0.6875
                return torch.where(y > 0, y, -1.0)

        def get_inputs():
            return [torch.randn(64, 96)]
    """,
    "history": """
        MODE = "eval"

        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.register_buffer("past", torch.zeros(200, 16))
                self.register_buffer("at", torch.zeros((), dtype=torch.long))

            def forward(self, x):
                self.past.index_copy_(0, (self.at % 200)[None], x[None])
                self.at += 1
                return self.past.sum(0)

        def get_inputs():
            return [torch.randn(16)]
    """,
}
TABLE = (
    Limit(
        name="takes-at-least-for-more-than-of-what-it-computed",
        row="C5",
        task="ramp",
        does="Compares with >= where the reference has >, behind a multiplication.",
        risk="inputs that hit a threshold exactly are only sought where inputs are compared",
        model="""
            class ModelNew(nn.Module):
                def forward(self, x):
                    y = x * 0.625 - 0.6875
                    return torch.where(y >= 0, y, -1.0)
        """,
    ),
    Limit(
        name="second-backward-fails",
        row="D19",
        task="backward",
        does="Frees what backward needs, so that a retained graph gives wrong gradients twice.",
        risk="each graph is gone through backwards once",
        model="""
            class Tanh(torch.autograd.Function):
                @staticmethod
                def forward(ctx, x):
                    y = torch.tanh(x)
                    ctx.kept = [y]
                    return y

                @staticmethod
                def backward(ctx, given):
                    y = ctx.kept.pop() if ctx.kept else 0.0
                    return given * (1 - y * y)

            class ModelNew(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.linear = nn.Linear(24, 16)

                def forward(self, x):
                    return Tanh.apply(self.linear(x))
        """,
    ),
    Limit(
        name="ring-without-end",
        row="C3",
        task="history",
        does="Stops where a buffer of 200 places ends, instead of beginning again.",
        risk="a succession of calls is tried up to 130 of them",
        model="""
            class ModelNew(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.register_buffer("past", torch.zeros(200, 16))
                    self.register_buffer("at", torch.zeros((), dtype=torch.long))

                def forward(self, x):
                    self.past.index_copy_(0, self.at.clamp(max=199)[None], x[None])
                    self.at += 1
                    return self.past.sum(0)
        """,
    ),
    Limit(
        name="reads-weights-as-they-usually-lie",
        row="C7",
        task="linear",
        does="Reads the weight row by row, whatever its strides are.",
        risk="parameters are given other values and never another memory format",
        model="""
            class ModelNew(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.linear = nn.Linear(64, 48)

                def forward(self, x):
                    weight = torch.as_strided(self.linear.weight, (48, 64), (64, 1))
                    return F.linear(x, weight, self.linear.bias)
        """,
    ),
    Limit(
        name="never-frees-a-little",
        row="C3",
        task="softmax",
        does="Keeps 16 bytes of every call for ever.",
        risk="memory that grows by less than 4 MB while it is timed looks like any other",
        model="""
            kept = []

            class ModelNew(nn.Module):
                def forward(self, x):
                    kept.append(torch.empty(4))
                    return torch.softmax(x, -1)
        """,
    ),
    Limit(
        name="careful-in-a-window-s-last-call",
        row="C1",
        task="softmax",
        does="Leaves the maximum out in all but single and last calls, where inputs are usual.",
        risk="calls in the middle of windows have usual inputs, and probes are last calls",
        model=FRAMES
        + """
class ModelNew(nn.Module):
    def forward(self, x):
        number, count = window()
        if number == count - 1:
            return torch.softmax(x, -1)
        e = torch.exp(x)
        return e / e.sum(-1, True)
""",
    ),
    Limit(
        name="updates-contiguous-inputs-only",
        row="C7",
        task="cache",
        does="Updates its second input wrongly where that does not lie row by row.",
        risk="what other layouts leave in inputs is compared for what may be touched only",
        model="""
            class ModelNew(nn.Module):
                def forward(self, x, cache):
                    total = cache + x
                    cache.copy_(total if cache.is_contiguous() else cache)
                    return total * 2
        """,
    ),
)
