"""Who may use a device: by the locks that other processes would wait for."""

import fcntl

import pytest

from kernelevolve.config import cache_folder
from kernelevolve.evaluation import lease


def is_free(name: str) -> bool:
    with (cache_folder() / "lanes" / f"{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_one_judge_at_a_time_has_a_gpu():
    with lease.device(0), lease.device(1):
        assert not is_free("device0")
        assert not is_free("device1")
    assert is_free("device0")


def test_a_gpu_is_free_again_when_its_judge_fails():
    with pytest.raises(ZeroDivisionError), lease.device(0):
        raise ZeroDivisionError
    assert is_free("device0")


def test_timing_is_exclusive_across_processes():
    with lease.timing():
        assert not is_free("timing")
        assert is_free("gate")
    assert is_free("timing")
