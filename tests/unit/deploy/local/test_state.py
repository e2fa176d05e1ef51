"""What `pointsman run` remembers in its data folder."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local.state import DataFolder
from shared.errors import StartupError

URL = "http://127.0.0.1:8080"


@pytest.fixture
def data(tmp_path: Path) -> DataFolder:
    data = DataFolder(tmp_path / "deep" / "data")
    data.take(URL)
    return data


def test_a_folder_is_held_by_one_process_and_the_other_hears_why(data: DataFolder) -> None:
    """Fails without the lock: two embedded servers on one folder destroy it."""
    with pytest.raises(StartupError) as error:
        DataFolder(data.folder).take("http://second")
    assert str(data.folder) in error.value.message
    assert f"(pid {os.getpid()}, {URL})" in error.value.message
    assert "POINTSMAN_DATA_DIR" in error.value.hint


def test_who_is_refused_touches_nothing(data: DataFolder) -> None:
    data.write("run.json", {"url": URL})
    for _ in range(2):
        with pytest.raises(StartupError, match=URL):
            DataFolder(data.folder).take("http://second")
    assert data.read("run.json") == {"url": URL}


def test_a_folder_that_is_held_by_nobody_known_is_refused_all_the_same(data: DataFolder) -> None:
    """Its holder has the lock and has not yet said who it is."""
    (data.folder / "pointsman.lock").write_text("")
    with pytest.raises(StartupError, match=r"already\."):
        DataFolder(data.folder).take(URL)


def test_where_a_killed_run_was_found_is_forgotten(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"url": "http://gone"}')
    (tmp_path / "pointsman.lock").write_text('{"pid": 1, "url": "http://gone/and/longer/than/the/next"}')
    data = DataFolder(tmp_path)
    data.take(URL)
    assert data.read("run.json") == {}
    assert data.read("pointsman.lock") == {"pid": os.getpid(), "url": URL}


def test_a_folder_is_free_again_when_its_process_is_gone(tmp_path: Path) -> None:
    code = f"from pathlib import Path; from deploy.local.state import DataFolder; DataFolder(Path({str(tmp_path)!r})).take('x')"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[4])
    DataFolder(tmp_path).take(URL)


def test_keys_are_kept_as_they_were_given(data: DataFolder) -> None:
    assert not data.has_secret_keys
    data.keep_secret_keys("the operator's own\n")
    assert data.has_secret_keys
    assert DataFolder(data.folder).secret_keys() == "the operator's own"


@pytest.mark.parametrize("umask_open", [0o644, 0o666])
def test_files_are_readable_by_their_owner_only(data: DataFolder, umask_open: int) -> None:
    """Also when a readable file was there before."""
    (data.folder / "demo.json").touch(umask_open)
    data.write("demo.json", {"key": "pm_live_x"})
    data.keep_secret_keys("x")
    for name in ("demo.json", "secret_keys", "pointsman.lock"):
        assert stat.S_IMODE((data.folder / name).stat().st_mode) == 0o600, name


def test_what_is_written_is_read_again_and_replaced_whole(data: DataFolder) -> None:
    data.write("run.json", {"url": "http://x", "pid": 1})
    data.write("run.json", {"pid": 2})
    assert data.read("run.json") == {"pid": 2}
    assert not list(data.folder.glob("*.new"))


def test_a_write_that_was_cut_off_leaves_the_old_file_and_does_not_stand_in_the_way(data: DataFolder) -> None:
    data.write("run.json", {"pid": 1})
    (data.folder / "run.json.new").write_text('{"pid": ')
    assert data.read("run.json") == {"pid": 1}
    data.write("run.json", {"pid": 2})
    assert data.read("run.json") == {"pid": 2}


def test_what_is_not_there_or_broken_is_empty(data: DataFolder) -> None:
    assert data.read("run.json") == {}
    for broken in (b"", b"{", b"\xff\xfe"):
        (data.folder / "run.json").write_bytes(broken)
        assert data.read("run.json") == {}


def test_what_is_removed_is_gone_and_may_be_removed_again(data: DataFolder) -> None:
    data.write("run.json", {"pid": 1})
    data.remove("run.json")
    data.remove("run.json")
    assert data.read("run.json") == {}


def unusable(tmp_path: Path) -> dict[str, Path]:
    """Folders that no start can use, whoever starts it."""
    (tmp_path / "file").touch()
    for name in ("pointsman.lock", "secret_keys"):
        (tmp_path / name[:4] / name).mkdir(parents=True)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    return {
        "a file": tmp_path / "file",
        "below a file": tmp_path / "file/data",
        "a system's": Path("/proc/data"),
        "too long": tmp_path / ("n" * 300),
        "a loop": tmp_path / "loop" / "data",
        "its lock is a folder": tmp_path / "poin",
        "its keys are a folder": tmp_path / "secr",
    }


@pytest.mark.parametrize(
    "why",
    [
        "a file",
        "below a file",
        "a system's",
        "too long",
        "a loop",
        "its lock is a folder",
        "its keys are a folder",
    ],
)
def test_a_folder_that_cannot_be_used_is_told_with_what_helps(tmp_path: Path, why: str) -> None:
    folder = unusable(tmp_path)[why]
    with pytest.raises(StartupError, match="cannot be used") as error:
        data = DataFolder(folder)
        data.take(URL)
        data.secret_keys()
    assert "POINTSMAN_DATA_DIR" in error.value.hint
    assert "chown" not in error.value.hint, "it would not help"


@pytest.mark.parametrize(
    ("number", "helps"),
    [
        (errno.EACCES, "chown"),
        (errno.EPERM, "chown"),
        (errno.EROFS, "takes writes"),
        (errno.ENOSPC, "room"),
        (errno.EDQUOT, "room"),
        (errno.EIO, "POINTSMAN_DATA_DIR"),
        (errno.EMFILE, "POINTSMAN_DATA_DIR"),
    ],
)
def test_what_helps_depends_on_what_is_wrong(
    data: DataFolder, monkeypatch: pytest.MonkeyPatch, number: int, helps: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StartupError, match=os.strerror(number)) as error:
        data.write("run.json", {})
    assert helps in error.value.hint
    monkeypatch.setattr(os, "write", fail)
    with pytest.raises(StartupError):
        DataFolder(data.folder.parent / "other").take(URL)


def test_keys_that_are_no_text_are_told(data: DataFolder) -> None:
    (data.folder / "secret_keys").write_bytes(b"\xff\xfe")
    with pytest.raises(StartupError, match="secret_keys"):
        data.secret_keys()
