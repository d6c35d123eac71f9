"""Which system calls a script does not get, as a program for the kernel.

What is denied reaches beyond the sandbox (other processes, the kernel's own administration), makes memory or sockets
that no limit sees, or has been the way out of sandboxes again and again. The rest is left to scripts: this is the
second wall, behind namespaces or Landlock.
"""

import errno
import functools
import os
import socket
from typing import Final

from .run import SandboxMissing

CLONE_NEW: Final = (0x80, 0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000)
"""The flags of clone that ask for a namespace: time, mount, cgroup, uts, ipc, user, pid, net."""

DENIED: Final = (
    *("unshare", "setns"),
    *("mount", "umount", "umount2", "pivot_root", "chroot", "move_mount", "open_tree", "fsopen", "fsconfig", "fsmount"),
    *("fspick", "mount_setattr"),
    *("ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "pidfd_getfd", "kcmp"),
    *("keyctl", "add_key", "request_key"),
    *("bpf", "perf_event_open", "userfaultfd", "fanotify_init", "lookup_dcookie"),
    *("io_uring_setup", "io_uring_enter", "io_uring_register"),
    *("memfd_create", "memfd_secret", "shmget", "shmat", "shmctl", "shmdt", "msgget", "msgsnd", "msgrcv", "msgctl"),
    *("semget", "semop", "semtimedop", "semctl", "mq_open", "mq_unlink"),
    *("open_by_handle_at", "name_to_handle_at"),
    *("kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module", "reboot", "swapon", "swapoff"),
    *("quotactl", "quotactl_fd", "acct", "syslog", "settimeofday", "clock_settime", "adjtimex", "clock_adjtime"),
    *("sethostname", "setdomainname", "vhangup", "nfsservctl", "uselib", "ustat", "sysfs", "iopl", "ioperm", "vm86"),
    *("move_pages", "migrate_pages"),
)
OPEN_TREE_ATTR: Final = 467
FILE_SETATTR: Final = 469
"""Calls younger than the names that libseccomp knows have one number on all architectures."""

SIGNALS: Final = ("kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_send_signal")
LEFT_BY_LANDLOCK: Final = (
    *("chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "fchown", "lchown", "fchownat"),
    *("utime", "utimes", "utimensat", "futimesat"),
    *("setxattr", "lsetxattr", "fsetxattr", "removexattr", "lremovexattr", "fremovexattr"),
    *("setxattrat", "removexattrat"),
    *("inotify_add_watch", "setpriority", "ioprio_set", "setsid", "setpgid"),
)
"""What Landlock lets a script do to the files and processes of its user outside; and leaving the process group.

A file that may only be read has rights, times and attributes too, and a descriptor of it is enough to change them.
"""
ATTRIBUTES: Final = (0x40086602, 0x40046602, 0x401C5820, 0x40087602, 0x800C6613, 0x40806685)
"""Requests to ioctl that change a file by a descriptor to read: its flags, project, version, encryption and verity."""
OWNERS: Final = (8, 10, 15)
"""F_SETOWN, F_SETSIG and F_SETOWN_EX of fcntl: which process gets which signal when something can be read."""
OWNERS_BY_IOCTL: Final = (0x8901, 0x8902)
"""FIOSETOWN and SIOCSPGRP."""
PR_SET_PDEATHSIG: Final = 1
PR_SET_DUMPABLE: Final = 4
TIOCSTI: Final = 0x5412
TIOCLINUX: Final = 0x541C
SOCK_TYPE_MASK: Final = 0xF
ANY_PERSONALITY: Final = 0xFFFFFFFF
LOW_32: Final = 0xFFFFFFFF


def available() -> None:
    """See that filters can be made.

    :raises SandboxMissing: a package is not installed.
    """
    try:
        program(network=False, alone=True)
    except ImportError:
        raise SandboxMissing("the package pyseccomp is missing: pip install 'outrider-device[scripts]'") from None
    except RuntimeError:  # pyseccomp's, where it finds no library
        raise SandboxMissing("libseccomp is missing: apt install libseccomp2") from None


@functools.cache
def program(*, network: bool, alone: bool, signals: bool = True, truncation: bool = True) -> bytes:
    """The filter as the kernel takes it.

    Calls of another architecture than the interpreter's (x32, i386) end the process.

    :param network: whether it may reach the network. Then sockets of the machine itself are denied, since those with an
        abstract name are reached through the network's namespace.
    :param alone: whether a process namespace of its own keeps others out of the script's sight, and a network namespace
        of its own keeps its sockets apart. Else these calls are denied where they name another process.
    :param signals: whether it may send signals, where it is not alone.
    :param truncation: whether it may truncate files by their path, where it is not alone.
    """
    import pyseccomp as seccomp  # type: ignore[import-untyped]  # it has no types  # pyright: ignore[reportMissingTypeStubs]

    denied = seccomp.ERRNO(errno.EPERM)
    made = seccomp.SyscallFilter(seccomp.ALLOW)

    def deny(name: str, *arguments: seccomp.Arg, code: int = denied) -> None:
        try:
            made.add_rule(code, name, *arguments)
        except OSError as error:  # unknown to this architecture or this libseccomp
            if error.errno not in (errno.EINVAL, errno.EFAULT, errno.EDOM):
                raise

    for name in DENIED:
        deny(name)
    made.add_rule(denied, OPEN_TREE_ATTR)
    # Its flags stand in memory, where no filter sees them; the C library falls back to clone.
    deny("clone3", code=seccomp.ERRNO(errno.ENOSYS))
    for flag in CLONE_NEW[1:]:  # that of time is a signal's number to clone, and only known to clone3 and unshare
        deny("clone", seccomp.Arg(0, seccomp.MASKED_EQ, flag, flag))
    deny("personality", seccomp.Arg(0, seccomp.NE, ANY_PERSONALITY))
    deny("prctl", seccomp.Arg(0, seccomp.MASKED_EQ, LOW_32, PR_SET_DUMPABLE))  # it would hide from the watch
    for request in (TIOCSTI, TIOCLINUX):
        deny("ioctl", seccomp.Arg(1, seccomp.MASKED_EQ, LOW_32, request))

    families = {int(socket.AF_INET), int(socket.AF_INET6)} if network or alone else set[int]()
    if alone and not network:
        families.add(socket.AF_UNIX)
    for family in set(range(max(families, default=0) + 1)) - families:
        deny("socket", seccomp.Arg(0, seccomp.EQ, family))
    deny("socket", seccomp.Arg(0, seccomp.GT, max(families, default=0)))
    deny("socketpair", seccomp.Arg(0, seccomp.NE, socket.AF_UNIX))
    # A pair of these can send to any other socket; the connected kinds cannot.
    deny("socketpair", seccomp.Arg(1, seccomp.MASKED_EQ, SOCK_TYPE_MASK, socket.SOCK_DGRAM))
    if not network:
        # They send open files, and what is removed while it is on its way is in no folder and no process: 5 GB went
        # past the quota so. With the network they are needed, as to find names.
        for name in ("sendmsg", "sendmmsg"):
            deny(name)

    if not alone:
        for name in LEFT_BY_LANDLOCK:
            deny(name)
        made.add_rule(denied, FILE_SETATTR)
        for request in ATTRIBUTES:
            deny("ioctl", seccomp.Arg(1, seccomp.MASKED_EQ, LOW_32, request))
        deny("prctl", seccomp.Arg(0, seccomp.MASKED_EQ, LOW_32, PR_SET_PDEATHSIG))
        for name in ("prlimit64", "sched_setaffinity", "sched_setscheduler", "sched_setparam", "sched_setattr"):
            deny(name, seccomp.Arg(0, seccomp.NE, 0))
        if not signals:
            for name in SIGNALS:
                deny(name)
            for command in OWNERS:
                for name in ("fcntl", "fcntl64"):
                    deny(name, seccomp.Arg(1, seccomp.MASKED_EQ, LOW_32, command))
            for request in OWNERS_BY_IOCTL:
                deny("ioctl", seccomp.Arg(1, seccomp.MASKED_EQ, LOW_32, request))
        if not truncation:
            deny("truncate")

    with os.fdopen(os.memfd_create("filter"), "r+b") as file:
        made.export_bpf(file)
        file.seek(0)
        return file.read()
