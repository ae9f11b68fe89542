"""Tasks for GPUs: inputs of a few megabytes, so that a call takes longer than its launch."""

GPU = {
    "gpu_rows": """
        class Model(nn.Module):
            def forward(self, x):
                return torch.softmax(x, -1)

        def get_inputs():
            return [torch.randn(2048, 1024)]
    """,
    "gpu_twice": """
        class Model(nn.Module):
            def forward(self, x):
                return torch.relu(x) * 2

        def get_inputs():
            return [torch.randn(2048, 1000)]
    """,
    "gpu_running": """
        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.register_buffer("mean", torch.zeros(1024))

            def forward(self, x):
                self.mean.mul_(0.9).add_(0.1 * x.mean(0))
                return torch.softmax(x - self.mean, -1)

        def get_inputs():
            return [torch.randn(2048, 1024)]
    """,
    "gpu_product": """
        class Model(nn.Module):
            def forward(self, x, w):
                return x @ w

        def get_inputs():
            return [torch.randn(512, 1024), torch.randn(1024, 768)]
    """,
    "gpu_layer": """
        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.linear = nn.Linear(512, 768)

            def forward(self, x):
                return self.linear(x)

        def get_inputs():
            return [torch.randn(1024, 512)]
    """,
    "gpu_transposed": """
        class Model(nn.Module):
            def forward(self, x):
                return x.transpose(0, 1).contiguous()

        def get_inputs():
            return [torch.randn(2048, 1000)]
    """,
    "gpu_picked": """
        class Model(nn.Module):
            def forward(self, x, rows):
                return x[rows]

        def get_inputs():
            return [torch.randn(4096, 256), torch.randint(0, 4096, (4096,))]
    """,
    "gpu_counts": """
        class Model(nn.Module):
            def forward(self, x):
                counts = torch.zeros(64, dtype=torch.int64, device=x.device)
                return counts.scatter_add_(0, x, torch.ones_like(x))

        def get_inputs():
            return [torch.randint(0, 64, (400_000,))]
    """,
    "gpu_half": """
        class Model(nn.Module):
            def forward(self, x):
                return torch.relu(x) * 2

        def get_inputs():
            return [torch.randn(2048, 1000).half()]
    """,
    "gpu_brain": """
        class Model(nn.Module):
            def forward(self, x):
                return torch.relu(x) * 2

        def get_inputs():
            return [torch.randn(2048, 1000).bfloat16()]
    """,
    "gpu_sums": """
        class Model(nn.Module):
            def forward(self, x):
                return x.sum(-1)

        def get_inputs():
            return [torch.randn(64, 32768)]
    """,
}
