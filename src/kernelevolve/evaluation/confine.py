"""What a runner and a build may ask of the kernel: nothing that reaches out of their walls.

A filter of system calls in the kernel's own format (classic BPF, `seccomp(2)`), written out here
because it is short: calls that look into other processes, change mounts or namespaces, keep memory
that no limit counts, or configure the machine fail with EPERM; so do those that make timers, whose
interrupts would go on while their process stands still and something else is timed. `clone3`, whose
flags a filter cannot see, fails with ENOSYS: the C library then uses `clone`, whose flags it can.
"""

import ctypes
import errno
import os
import platform
import struct
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 22, 24, 38
FILTER_MODE, CAPABILITY_VERSION = 2, 0x20080522
NEW_NAMESPACES = 0x7E020080
"""Flags of `clone` that make namespaces: mount, cgroup, UTS, IPC, user, PID, network, time."""
LOAD, EQUAL, ANY_BIT, RETURN = 0x20, 0x15, 0x45, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050000
NUMBER, ARCHITECTURE, FIRST_ARGUMENT, SECOND_ARGUMENT = 0, 4, 16, 24
TELLING = {
    "fcntl": {"F_SETOWN": 8, "F_SETSIG": 10, "F_SETOWN_EX": 15, "F_NOTIFY": 1026},
    "ioctl": {"FIOSETOWN": 0x8901, "SIOCSPGRP": 0x8902, "FIOASYNC": 0x5452},
}
"""Have the kernel send signals of one's choice: one that continues takes a pending stop away."""
OTHER_ABI = 0x40000000
"""Marks calls of x32 in the number; that table would lead round this filter."""


class Calls(NamedTuple):
    """One processor's numbers."""

    audit: int
    clone: int
    prctl: int
    fcntl: int
    ioctl: int
    signalling: tuple[int, ...]
    """`kill`, `tgkill`, `tkill`, `pidfd_send_signal`, `rt_sigqueueinfo`, `rt_tgsigqueueinfo`."""
    refused: dict[str, int]


COMMON = {
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "pidfd_getfd": 438,
    "process_madvise": 440,
    "mount_setattr": 442,
    "memfd_secret": 447,
    "process_mrelease": 448,
}
CLONE3 = 435
X86_64 = Calls(
    audit=0xC000003E,
    clone=56,
    prctl=157,
    fcntl=72,
    ioctl=16,
    signalling=(62, 234, 200, 424, 129, 297),
    refused=COMMON
    | {"shmget": 29, "msgget": 68, "ptrace": 101, "syslog": 103, "modify_ldt": 154}
    | {"pivot_root": 155, "adjtimex": 159, "chroot": 161, "acct": 163, "settimeofday": 164}
    | {"mount": 165, "umount2": 166, "swapon": 167, "swapoff": 168, "reboot": 169}
    | {"sethostname": 170, "setdomainname": 171, "iopl": 172, "ioperm": 173, "init_module": 175}
    | {"delete_module": 176, "quotactl": 179, "clock_settime": 227, "kexec_load": 246}
    | {"add_key": 248, "request_key": 249, "keyctl": 250, "unshare": 272}
    | {"perf_event_open": 298, "fanotify_init": 300, "name_to_handle_at": 303}
    | {"open_by_handle_at": 304, "clock_adjtime": 305, "setns": 308, "process_vm_readv": 310}
    | {"process_vm_writev": 311, "kcmp": 312, "finit_module": 313, "seccomp": 317}
    | {"memfd_create": 319, "kexec_file_load": 320, "bpf": 321, "userfaultfd": 323}
    | {"timer_create": 222, "mq_notify": 244, "timerfd_create": 283},
)
AARCH64 = Calls(
    audit=0xC00000B7,
    clone=220,
    prctl=167,
    fcntl=25,
    ioctl=29,
    signalling=(129, 131, 130, 424, 138, 240),
    refused=COMMON
    | {"umount2": 39, "mount": 40, "pivot_root": 41, "chroot": 51, "quotactl": 60, "acct": 89}
    | {"unshare": 97, "kexec_load": 104, "init_module": 105, "delete_module": 106}
    | {"clock_settime": 112, "syslog": 116, "ptrace": 117, "reboot": 142, "sethostname": 161}
    | {"setdomainname": 162, "settimeofday": 170, "adjtimex": 171, "msgget": 186, "shmget": 194}
    | {"add_key": 217, "request_key": 218, "keyctl": 219, "swapon": 224, "swapoff": 225}
    | {"perf_event_open": 241, "fanotify_init": 262, "name_to_handle_at": 264}
    | {"open_by_handle_at": 265, "clock_adjtime": 266, "setns": 268, "process_vm_readv": 270}
    | {"process_vm_writev": 271, "kcmp": 272, "finit_module": 273, "seccomp": 277}
    | {"memfd_create": 279, "bpf": 280, "userfaultfd": 282, "kexec_file_load": 294}
    | {"timer_create": 107, "mq_notify": 184, "timerfd_create": 85},
)
MACHINES = {"x86_64": X86_64, "aarch64": AARCH64}


def program(own: int | None = None) -> bytes:
    """The filter for this processor; empty where its call numbers are not known here.

    Signals may be sent to process `own` alone where one is given.
    """
    calls = MACHINES.get(platform.machine())
    if calls is None:
        return b""
    refuse = _step(RETURN, REFUSE | errno.EPERM)
    steps = [_step(LOAD, ARCHITECTURE), _step(EQUAL, calls.audit, 1, 0), refuse]
    steps += [_step(LOAD, NUMBER)]
    if calls is X86_64:
        steps += [_step(ANY_BIT, OTHER_ABI, 0, 1), refuse]
    steps += [_step(EQUAL, CLONE3, 0, 1), _step(RETURN, REFUSE | errno.ENOSYS)]
    for number in calls.refused.values():
        steps += [_step(EQUAL, number, 0, 1), refuse]
    argument = _step(LOAD, FIRST_ARGUMENT)
    allow = _step(RETURN, ALLOW)
    for name, commands in TELLING.items():
        tests = [s for c in commands.values() for s in (_step(EQUAL, c, 0, 1), refuse)]
        steps += [_step(EQUAL, getattr(calls, name), 0, len(tests) + 2)]
        steps += [_step(LOAD, SECOND_ARGUMENT), *tests, allow]
    for number in calls.signalling if own is not None else ():
        steps += [_step(EQUAL, number, 0, 4), argument, _step(EQUAL, own or 0, 1, 0), refuse, allow]
    steps += [_step(EQUAL, calls.clone, 0, 4), argument]
    steps += [_step(ANY_BIT, NEW_NAMESPACES, 0, 1), refuse, allow]
    steps += [_step(EQUAL, calls.prctl, 0, 3), argument]
    steps += [_step(EQUAL, PR_SET_SECCOMP, 0, 1), refuse, allow]
    return b"".join(steps)


def _step(code: int, value: int, when_true: int = 0, when_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, when_true, when_false, value)


def confine(keep: frozenset[int], *, alone: bool = False) -> None:
    """Called in a runner before it loads anything: no way back from here.

    Args:
        keep: descriptors that stay open.
        alone: no process but this one may be sent signals: its numbers are everybody's.
    """
    _close_others(keep)
    for capability in range(64):
        LIBC.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    header = struct.pack("=Ii", CAPABILITY_VERSION, 0)
    LIBC.capset(header, bytes(24))
    filtered = program(os.getpid() if alone else None)
    if LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or not filtered:
        return
    code = ctypes.create_string_buffer(filtered, len(filtered))
    fields = struct.pack("@HxxxxxxP", len(filtered) // 8, ctypes.addressof(code))
    if LIBC.prctl(PR_SET_SECCOMP, FILTER_MODE, fields, 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")


def _close_others(keep: frozenset[int]) -> None:
    for entry in list(Path("/proc/self/fd").iterdir()):
        if int(entry.name) not in keep:
            with suppress(OSError):
                os.close(int(entry.name))
