"""Tasks whose own draws and first parameters do not show all that the reference does."""

UNSEEN = {
    "pooled": """
        MODE = "eval"

        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.bn = nn.BatchNorm2d(8)

            def forward(self, x):
                return F.max_pool2d(torch.relu(self.bn(x)), 2)

        def get_inputs():
            return [torch.randn(2, 8, 12, 12)]
    """,
    "divergence": """
        class Model(nn.Module):
            def forward(self, x, q):
                return F.kl_div(torch.log_softmax(x, -1), q, reduction="none").sum(-1)

        def get_inputs():
            return [torch.randn(32, 64), torch.softmax(torch.randn(32, 64), -1)]
    """,
    "logsumexp": """
        class Model(nn.Module):
            def forward(self, x):
                return torch.logsumexp(x, -1)

        def get_inputs():
            return [torch.randn(48, 96)]
    """,
    "filled": """
        class Model(nn.Module):
            def forward(self, x, keep):
                return torch.softmax(x.masked_fill(~keep, -1e9), -1)

        def get_inputs():
            return [torch.randn(32, 64), torch.rand(32, 64) > 0.1]
    """,
    "dropped": """
        class Model(nn.Module):
            def forward(self, x, ids):
                return x[ids.clamp(min=0)] * (ids >= 0).unsqueeze(-1)

        def get_inputs():
            return [torch.randn(50, 32), torch.randint(0, 50, (64,))]
    """,
    "batched": """
        class Model(nn.Module):
            def forward(self, x):
                return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)

        def get_inputs():
            return [torch.randn(4, 12, 64)]
    """,
    "smoothed": """
        class Model(nn.Module):
            def forward(self, x, width):
                i = torch.arange(256, dtype=torch.float32, device=x.device)
                weights = torch.exp(-((i[:, None] - i) ** 2) / (2 * width * width))
                return x @ (weights / weights.sum(-1, keepdim=True)).t()

        def get_inputs():
            return [torch.randn(4, 256), torch.rand(1) * 4 + 1]
    """,
    "steps": """
        class Model(nn.Module):
            def forward(self, x):
                return torch.where(x > 0.5, x * 2, x) + torch.round(x)

        def get_inputs():
            return [torch.randn(48, 96)]
    """,
    "buckets": """
        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.register_buffer("edges", torch.linspace(-1, 1, 8))

            def forward(self, x):
                return torch.bucketize(x, self.edges)

        def get_inputs():
            return [torch.randn(48, 96)]
    """,
    "ranked": """
        class Model(nn.Module):
            def forward(self, x):
                return x.sort(stable=True)

        def get_inputs():
            return [torch.randn(48, 96)]
    """,
    "normalised": """
        class Model(nn.Module):
            def forward(self, x):
                largest = x.amax(-1)
                x.sub_(x.logsumexp(-1, keepdim=True))
                return largest

        def get_inputs():
            return [torch.randn(48, 96)]
    """,
    "gated": """
        BACKWARD = True

        class Model(nn.Module):
            def forward(self, pair):
                return torch.tanh(pair[0]) * torch.sigmoid(pair[1])

        def get_inputs():
            return [[torch.randn(16, 24), torch.randn(16, 24)]]
    """,
    "ring": """
        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.register_buffer("kept", torch.zeros(12, 64))
                self.register_buffer("place", torch.zeros(1, dtype=torch.int64))

            def forward(self, x):
                self.kept.index_copy_(0, self.place % 12, x.mean(0, keepdim=True))
                self.place += 1
                return x + self.kept.sum(0)

        def get_inputs():
            return [torch.randn(32, 64)]
    """,
    "listed": """
        class Model(nn.Module):
            def forward(self, x, ids):
                rows = torch.stack([x[i] for i in ids.clamp(min=0).tolist()])
                return rows * (ids != -1).unsqueeze(-1)

        def get_inputs():
            return [torch.randn(50, 64), torch.randint(0, 50, (48,))]
    """,
}
