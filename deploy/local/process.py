"""As whom a server of ours runs, and that it ends when we do.

PostgreSQL and initdb refuse uid 0 and any uid without a name. So a server takes the first of these
identities that reaches its folders:

    ordinary user       as it is
    root, nameless uid  a user namespace in which our uid is called `nobody`; files stay ours
    root                the user `nobody`, where namespaces are denied (Docker's default); the
                        server's folder is given to it

Invariants: no account is made and no parent folder's rights are changed. The death signal is set
after the uid, because a change of uid clears it. It fires when the *thread* that spawned the
server ends, so servers are spawned from the main thread. macOS has no such signal: there a server
outlives a killed parent, and the next start is refused, because it finds the folder's lock held
(`deploy/local/server.py`).
"""

import ctypes
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from shared.errors import StartupError

# What a server's process inherits: nothing of ours, so that no secret shows in its /proc entry and
# no PGOPTIONS of the operator's shell changes it.
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}

PROBE_TIMEOUT_SECONDS = 10.0

# From <sched.h>, <linux/prctl.h>, <linux/securebits.h> and <linux/capability.h>; Python has no
# names for them before 3.12.
CLONE_NEWUSER = 0x10000000
PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_GET_SECUREBITS = 27
PR_SET_SECUREBITS = 28
SECBIT_NO_SETUID_FIXUP = 4
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2
CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Identity:
    """As whom a server runs: who owns its files, and how its process becomes that user before
    exec.
    """

    name: str
    uid: int
    gid: int
    become: Callable[[], None]

    def preexec(self, death_signal: signal.Signals) -> Callable[[], None]:
        """Return what a child runs before exec: it changes its uid and follows its parent into
        death.
        """
        parent = os.getpid()

        def prepare() -> None:
            os.umask(0o077)
            self.become()
            if sys.platform == "linux":
                _call("prctl", PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
                if os.getppid() != parent:  # it died before the signal was set
                    os._exit(1)

        return prepare

    def reaches(self, programs: Path, data: Path) -> bool:
        """Try, in a child: can this identity be taken here, does it find the programs and get into
        the folder of the data?
        """
        become = self.preexec(signal.SIGKILL)

        def enter() -> None:
            become()
            # as PostgreSQL looks for its own: a `cd` may succeed where access(2) does not
            if not os.access(programs, os.R_OK | os.X_OK):
                raise PermissionError(programs)

        try:
            probe = subprocess.run(
                ["/bin/sh", "-c", 'cd "$1"', "sh", data],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=ENVIRONMENT,
                preexec_fn=enter,
                timeout=PROBE_TIMEOUT_SECONDS,
                check=False,
            )
        except (OSError, subprocess.SubprocessError):  # preexec failed: the kernel denies this identity
            return False
        return probe.returncode == 0

    def adopt(self, path: Path) -> None:
        """Make this identity own the path and all below it, the path itself last.

        Raises StartupError when it belongs to somebody else and we are not root.
        """
        if path.stat().st_uid == self.uid:
            return
        if os.geteuid() != 0:
            raise StartupError(
                f"{path} belongs to another user.",
                hint=f"Run `sudo chown -R {self.uid} {path}`, or set POINTSMAN_DATA_DIR to a folder of your own.",
            )
        for entry in (*path.rglob("*"), path):
            os.chown(entry, self.uid, self.gid, follow_symlinks=False)


def choose_identity(programs: Path, data: Path) -> Identity:
    """Pick the identity under which a server can run and get at these folders, or raise
    StartupError.
    """
    if os.geteuid() != 0 and _has_name(os.geteuid()):
        return Identity("this user", os.geteuid(), os.getegid(), become=lambda: None)
    tried = list(_disguises())
    for identity in tried:
        if identity.reaches(programs, data):
            return identity
    if tried and os.geteuid() == 0:
        unreached = data if tried[-1].reaches(programs, Path("/")) else programs
        raise StartupError(
            f"The embedded servers cannot run as root, and {tried[-1].name} does not get at {unreached}.",
            hint="Run Pointsman as an ordinary user who does, move it to where everybody can enter, or set "
            "POINTSMAN_DATABASE_URL and POINTSMAN_REDIS_URL. It also works where user namespaces are allowed.",
        )
    raise StartupError(
        "The embedded servers cannot run as root or as a uid without a name, and nothing else is allowed here.",
        hint="Run Pointsman as an ordinary user, or set POINTSMAN_DATABASE_URL and POINTSMAN_REDIS_URL. It "
        "also works where user namespaces are allowed.",
    )


def _disguises() -> Iterator[Identity]:
    with suppress(KeyError):
        nobody = pwd.getpwnam("nobody")
        if sys.platform == "linux":
            yield in_namespace(nobody)
        if os.geteuid() == 0:
            yield as_nobody(nobody)


def in_namespace(nobody: pwd.struct_passwd) -> Identity:
    """Stay who we are for the file system, and be called nobody in a user namespace of our own."""
    uid, gid = os.geteuid(), os.getegid()
    maps = (
        ("setgroups", "deny"),  # the kernel demands it before an unprivileged gid_map
        ("uid_map", f"{nobody.pw_uid} {uid} 1"),
        ("gid_map", f"{nobody.pw_gid} {gid} 1"),
    )

    def become() -> None:
        _call("unshare", CLONE_NEWUSER)
        for name, text in maps:
            Path("/proc/self", name).write_text(text)

    return Identity("nobody in a user namespace", uid, gid, become)


def as_nobody(nobody: pwd.struct_passwd) -> Identity:
    """Give up root, but keep what passes through other people's folders, such as /root or a 0700
    home.
    """

    def become() -> None:
        if sys.platform == "linux":
            _call("prctl", PR_SET_KEEPCAPS, 1, 0, 0, 0)
            _let_access_see_capabilities()
        os.setgroups([])
        os.setgid(nobody.pw_gid)
        os.setuid(nobody.pw_uid)
        if sys.platform == "linux":
            _keep_right_of_way()

    return Identity("the user nobody", nobody.pw_uid, nobody.pw_gid, become)


def _let_access_see_capabilities() -> None:
    """Let access(2) answer for who is not root as open(2) would.

    PostgreSQL asks it for its own programs; without this they are not found in a folder that only
    root may enter. Needs CAP_SETPCAP, which Docker grants; reaches() tells where it is missing.
    Source: capabilities(7), "The securebits flags".
    """
    held = _libc.prctl(PR_GET_SECUREBITS, 0, 0, 0, 0)
    with suppress(OSError):
        _call("prctl", PR_SET_SECUREBITS, held | SECBIT_NO_SETUID_FIXUP, 0, 0, 0)


def _keep_right_of_way() -> None:
    """Keep one capability across exec: to enter and read any folder, or in containers, which lack
    it, the wider one.

    Without either the server runs if its folders are open to all; reaches() tells.
    The alternative, to copy programs and data to an open place, would move an operator's data.
    Source: capabilities(7), "Ambient".
    """
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    # effective, permitted, inheritable; then the same three for capabilities from 32 on
    sets = (ctypes.c_uint32 * 6)()
    _call("capget", header, sets)
    kept = next((c for c in (CAP_DAC_READ_SEARCH, CAP_DAC_OVERRIDE) if sets[1] & 1 << c), None)
    mask = 0 if kept is None else 1 << kept
    _call("capset", header, (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0))
    if kept is not None:
        with suppress(OSError):  # a kernel without ambient capabilities
            _call("prctl", PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, kept, 0, 0)


def _call(function: str, *arguments: object) -> None:
    """Call a C function that answers 0, or raise OSError."""
    words = [ctypes.c_ulong(each) if isinstance(each, int) else each for each in arguments]
    if getattr(_libc, function)(*words) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{function}: {os.strerror(number)}")


def _has_name(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True
