"""What kernels need that are compiled when they are launched, for whoever asks this process."""

kernels: dict[str, dict[str, float]] = {}
"""Of each kernel with its options: registers, spilled bytes, shared memory, threads of a block."""
