"""What generated kernels import to load native code. Copied into exports; needs torch alone."""
