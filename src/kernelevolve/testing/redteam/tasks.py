"""The tasks that fixtures are for: few and small, so that each is admitted and measured once."""

from functools import cache

from kernelevolve import taskfile
from kernelevolve.core.task import Task
from kernelevolve.testing.redteam import limits
from kernelevolve.testing.redteam.gpu_tasks import GPU
from kernelevolve.testing.redteam.record import HEAD, variant
from kernelevolve.testing.redteam.unseen import UNSEEN

TASKS = (
    UNSEEN
    | GPU
    | limits.TASKS
    | {
        "softmax": """
        class Model(nn.Module):
            def forward(self, x):
                return torch.softmax(x, -1)

        def get_inputs():
            return [torch.randn(64, 96)]
    """,
        "relu": """
        class Model(nn.Module):
            def forward(self, x):
                return torch.relu(x)

        def get_inputs():
            return [torch.randn(64, 96)]
    """,
        "norm_gelu": """
        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.norm = nn.LayerNorm(96)

            def forward(self, x):
                return F.gelu(self.norm(x))

        def get_inputs():
            return [torch.randn(48, 96)]
    """,
        "matmul": """
        class Model(nn.Module):
            def forward(self, x, w, b):
                return x @ w + b

        def get_inputs():
            return [torch.randn(48, 64), torch.randn(64, 40), torch.randn(40)]
    """,
        "linear": """
        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.linear = nn.Linear(64, 48)

            def forward(self, x):
                return self.linear(x)

        def get_inputs():
            return [torch.randn(32, 64)]
    """,
        "chain": """
        class Model(nn.Module):
            def forward(self, x):
                total = torch.cumsum(x, -1)
                return total, total.mean(-1)

        def get_inputs():
            return [torch.randn(32, 80)]
    """,
        "argmax": """
        class Model(nn.Module):
            def forward(self, x):
                return {"index": x.argmax(-1), "positive": x > 0}

        def get_inputs():
            return [torch.randn(64, 90)]
    """,
        "batchnorm": """
        MODE = "train"

        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.norm = nn.BatchNorm1d(24)

            def forward(self, x):
                return self.norm(x)

        def get_inputs():
            return [torch.randn(64, 24)]
    """,
        "running": """
        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.register_buffer("mean", torch.zeros(96))

            def forward(self, x):
                self.mean.mul_(0.9).add_(0.1 * x.mean(0))
                return torch.softmax(x - self.mean, -1)

        def get_inputs():
            return [torch.randn(64, 96)]
    """,
        "transposed": """
        class Model(nn.Module):
            def forward(self, x):
                return x.transpose(0, 1).contiguous()

        def get_inputs():
            return [torch.randn(64, 96)]
    """,
        "backward": """
        BACKWARD = True

        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.linear = nn.Linear(24, 16)

            def forward(self, x):
                return torch.tanh(self.linear(x))

        def get_inputs():
            return [torch.randn(16, 24)]
    """,
        "sizes": """
        WORKLOADS = {"small": {"rows": 16, "width": 64}, "large": {"rows": 96, "width": 128}}
        HELD_OUT = {"odd": {"rows": 13, "width": 61}}

        class Model(nn.Module):
            def forward(self, x):
                return F.silu(x) * x.sum(-1, keepdim=True)

        def get_inputs(rows, width):
            return [torch.randn(rows, width)]
    """,
        "repeats": """
        TOLERANCE = {"bitwise_repeats": True}

        class Model(nn.Module):
            def forward(self, x):
                return torch.softmax(x, -1)

        def get_inputs():
            return [torch.randn(24, 64)]
    """,
        "large": """
        class Model(nn.Module):
            def forward(self, x):
                return torch.relu(x) * 2

        def get_inputs():
            return [torch.randn(1200, 1000)]
    """,
        "downcast": """
        PRECISION = "downcast"

        class Model(nn.Module):
            def forward(self, x, w):
                return x @ w

        def get_inputs():
            return [torch.randn(32, 64), torch.randn(64, 32)]
    """,
        "brain_softmax": """
        class Model(nn.Module):
            def forward(self, x):
                return torch.softmax(x, -1)

        def get_inputs():
            return [(torch.randn(32, 512) * 3).bfloat16()]
    """,
        "brain_matmul": """
        class Model(nn.Module):
            def forward(self, x, w):
                return x @ w

        def get_inputs():
            return [torch.randn(48, 256).bfloat16(), torch.randn(256, 48).bfloat16()]
    """,
        "broadcast": """
        class Model(nn.Module):
            def forward(self, x):
                return x.sum(-1, keepdim=True).expand_as(x).contiguous()

        def get_inputs():
            return [torch.randn(48, 96)]
    """,
        "pair": """
        class Model(nn.Module):
            def forward(self, x):
                y = torch.tanh(x)
                return y, y.clone()

        def get_inputs():
            return [torch.randn(48, 96)]
    """,
        "cache": """
        class Model(nn.Module):
            def forward(self, x, cache):
                cache.add_(x)
                return cache * 2

        def get_inputs():
            return [torch.randn(48, 96), torch.randn(48, 96)]
    """,
        "positions": """
        class Model(nn.Module):
            def forward(self, x, positions):
                return x + positions.unsqueeze(1) * 0.25

        def get_inputs():
            return [torch.randn(40, 64), torch.arange(40)]
    """,
        "cross_entropy": """
        class Model(nn.Module):
            def forward(self, x, target):
                return F.cross_entropy(x, target, reduction="none")

        def get_inputs():
            return [torch.randn(64, 90), torch.randint(0, 90, (64,))]
    """,
        "masked": """
        class Model(nn.Module):
            def forward(self, x, mask):
                return (x * mask).sum(-1) / (1 + mask.sum(-1))

        def get_inputs():
            return [torch.randn(48, 96), (torch.rand(48, 96) > 0.3).float()]
    """,
        "complex": """
        class Model(nn.Module):
            def forward(self, x):
                return torch.exp(torch.sin(x))

        def get_inputs():
            return [torch.randn(32, 128, dtype=torch.complex64)]
    """,
        "keyed": """
        class Model(nn.Module):
            def forward(self, x, keys):
                return x[torch.argsort(keys, stable=True)]

        def get_inputs():
            return [torch.randn(8192), torch.randint(0, 1 << 20, (8192,))]
    """,
        "unit": """
        class Model(nn.Module):
            def forward(self, x):
                return torch.softmax(x, -1)

        def get_inputs():
            return [torch.rand(64, 96)]
    """,
        "kink": """
        BACKWARD = True

        class Model(nn.Module):
            def forward(self, x):
                return torch.relu(x) * 2

        def get_inputs():
            return [torch.randn(32, 48)]
    """,
        "upper": """
        class Model(nn.Module):
            def forward(self, x, mask):
                return torch.softmax(x - 1e4 * mask, -1)

        def get_inputs():
            return [torch.randn(4, 48, 48), torch.ones(48, 48).triu(1)]
    """,
    }
)


@cache
def task(name: str) -> Task:
    """One of `TASKS`."""
    text = HEAD + "\n" + variant(TASKS[name], cheating=True)
    if "get_init_inputs" not in text:
        text += "\n\ndef get_init_inputs():\n    return []\n"
    return taskfile.parse(name, text)
