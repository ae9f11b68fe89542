"""What the environment of every process says that works on a target."""

from kernelevolve.core.target import TargetSpec


def environment(spec: TargetSpec, **more: str) -> dict[str, str]:
    """Thread counts that match the lane's cores, waiting threads that do not spin, no GPUs.

    Args:
        spec: the device.
        more: what is added, or takes the place of one of these.
    """
    threads = str(spec.threads)
    return {
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "OMP_WAIT_POLICY": "passive",
        "CUDA_VISIBLE_DEVICES": "",
        "HIP_VISIBLE_DEVICES": "",
        **more,
    }
