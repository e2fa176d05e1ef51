"""Whose code a side runs: this checkout's, or that of a commit in a git worktree that lasts as long
as the benchmark.

The package is installed in editable mode, so that any interpreter of this checkout finds this
checkout's code unless it is told otherwise. A side is therefore started in its checkout's folder
with PYTHONPATH on it, and must_be_run_by() and must_import_itself() see that nothing else is run.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

PACKAGES = ("api", "worker", "shared", "migrations", "deploy")
REQUIREMENTS = Path("deploy/requirements/run.txt")
ROOT = Path(__file__).resolve().parents[2]
WHERE = f"import {', '.join(PACKAGES)}; print(*(p.__file__ for p in ({', '.join(PACKAGES)})), sep='\\n')"


@dataclass(frozen=True, slots=True)
class Checkout:
    """A folder with the code of one version, and the interpreter that has what this version
    needs.
    """

    name: str
    folder: Path
    interpreter: str

    @staticmethod
    def this() -> Checkout:
        """The checkout that the benchmark itself is part of."""
        return Checkout("this checkout", ROOT, sys.executable)

    def must_import_itself(self) -> None:
        """RuntimeError when a process that is started as a side's would import any of our packages
        from elsewhere.
        """
        environment = {**os.environ, "PYTHONPATH": str(self.folder)}
        asked = subprocess.run(
            [self.interpreter, "-c", WHERE],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        astray = [path for path in asked.stdout.split() if not Path(path).is_relative_to(self.folder)]
        if astray:
            raise RuntimeError(f"{self.name} would run {', '.join(astray)} instead of {self.folder}")

    def must_be_run_by(self, pid: int) -> None:
        """RuntimeError when this process works in another folder, or would import from another one
        first.
        """
        found = Path(f"/proc/{pid}/cwd").resolve()
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        if found != self.folder or f"PYTHONPATH={self.folder}".encode() not in variables:
            raise RuntimeError(f"process {pid} runs the code of {found} instead of {self.folder}")


@contextmanager
def checked_out(reference: str, folder: Path) -> Iterator[Checkout]:
    """The code of a commit in a worktree at this folder, which is gone afterwards, with what it
    needs installed.
    """
    commit = _git("rev-parse", "--short", f"{reference}^{{commit}}")
    try:
        _git("worktree", "add", "--detach", str(folder), commit)
        there = folder.resolve()
        name = commit if reference.startswith(commit) else f"{reference} ({commit})"
        checkout = Checkout(name, there, _interpreter(there))
        checkout.must_import_itself()
        yield checkout
    finally:  # also when making it was interrupted half-way: what is not there is no error then
        remove = ["git", "worktree", "remove", "--force", "--force", str(folder)]
        subprocess.run(remove, cwd=ROOT, capture_output=True, check=False)


def _interpreter(folder: Path) -> str:
    """Ours where it has the same requirements, else that of a virtual environment which its own
    Makefile makes.
    """
    if (folder / REQUIREMENTS).read_bytes() == (ROOT / REQUIREMENTS).read_bytes():
        return sys.executable
    click.echo("its requirements are others: installing them")
    # what was given to our own make, BENCH among it, is not meant for this one
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))
    }
    subprocess.run(["make", ".venv/run.stamp"], cwd=folder, env=environment, check=True)
    return str(folder / ".venv/bin/python")


def _git(*arguments: str) -> str:
    ended = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise click.ClickException(f"git {' '.join(arguments)}: {ended.stderr.strip()}")
    return ended.stdout.strip()
