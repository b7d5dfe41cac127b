"""The secret with which a user vouches for what is kept."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_calibration.models import secret

posix = pytest.mark.skipif(os.name != "posix", reason="rights of files are POSIX")


def fresh(place: Path) -> bytes | None:
    """Read a secret as another process would."""
    return secret.user_secret.__wrapped__(place)


@posix
def test_it_is_made_once_for_its_user_alone(tmp_path: Path) -> None:
    """Of 32 bytes, the same in every process, in a file and folder that nobody else can read."""
    place = tmp_path / "state" / "pytest-calibration" / "secret"
    first = fresh(place)
    assert first is not None
    assert len(first) == 32
    assert fresh(place) == first
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700
    assert [file.name for file in place.parent.iterdir()] == ["secret"]
    assert fresh(tmp_path / "other" / "secret") != first


@posix
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_one_that_others_could_know_is_replaced(tmp_path: Path, mode: int) -> None:
    """Whoever could read or write it could seal."""
    place = tmp_path / "secret"
    first = fresh(place)
    place.chmod(mode)
    second = fresh(place)
    assert second not in (None, first)
    assert stat.S_IMODE(place.stat().st_mode) == 0o600


@posix
@pytest.mark.parametrize("kind", ["short", "long", "empty", "link", "fifo"])
def test_what_is_no_secret_is_replaced(tmp_path: Path, kind: str) -> None:
    """A part of one, a link to a file elsewhere, or something that is no file."""
    place = tmp_path / "secret"
    known = b"k" * 32
    (tmp_path / "known").write_bytes(known)
    (tmp_path / "known").chmod(0o600)
    if kind == "link":
        place.symlink_to(tmp_path / "known")
    elif kind == "fifo":
        os.mkfifo(place, 0o600)
    else:
        place.write_bytes(known[: {"short": 16, "empty": 0}.get(kind)] + b"x" * (kind == "long"))
        place.chmod(0o600)
    made = fresh(place)
    assert made is not None
    assert made != known
    assert fresh(place) == made


@posix
@pytest.mark.skipif(os.name == "posix" and os.geteuid() != 0, reason="files are given away by root")
def test_one_of_another_user_is_replaced(tmp_path: Path) -> None:
    """It is theirs to know."""
    place = tmp_path / "secret"
    first = fresh(place)
    os.chown(place, 12345, 12345)
    assert fresh(place) not in (None, first)


def test_where_none_can_be_kept_there_is_none(tmp_path: Path) -> None:
    """Nothing raises, nothing is sealed, and nothing is believed."""
    (tmp_path / "file").write_text("")
    assert fresh(tmp_path / "file" / "secret") is None


def test_it_lies_where_programs_keep_what_is_a_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the user says, else at home; without a home there is none, and nothing is made."""
    secret.user_secret.cache_clear()
    for given, place in [(str(tmp_path / "state"), "state"), ("", "home"), ("state", "home")]:
        monkeypatch.setenv("XDG_STATE_HOME", given)
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        secret.user_secret.cache_clear()
        assert secret.sealed(b"content", b"purpose")
        (found,) = (tmp_path / place).rglob("secret")
        found.unlink()
    monkeypatch.setattr(Path, "home", classmethod(_no_home))
    secret.user_secret.cache_clear()
    assert secret.sealed(b"content", b"purpose") is None
    assert secret.unsealed(b"content" + bytes(16), b"purpose") is None
    secret.user_secret.cache_clear()


def _no_home(_: type[Path]) -> Path:
    raise RuntimeError("Could not determine home directory.")


def test_a_seal_is_of_one_content_and_purpose() -> None:
    """Neither can be exchanged."""
    one = secret.sealed(b"content", b"purpose")
    assert one is not None
    assert secret.unsealed(one, b"purpose") == b"content"
    assert secret.unsealed(one, b"purposf") is None
    assert secret.unsealed(b"C" + one[1:], b"purpose") is None
    assert secret.unsealed(b"", b"purpose") is None
    # Where one ends and the other begins counts.
    other = secret.sealed(b"econtent", b"purpos")
    assert other is not None
    assert other[-secret.SEAL :] != one[-secret.SEAL :]


def test_several_processes_make_one(tmp_path: Path) -> None:
    """The first wins, and the others take its secret."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom pytest_calibration.models import secret\n"
        "print(secret.user_secret(Path(sys.argv[1])).hex())"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "state" / "secret")]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    outputs = {run.communicate()[0].strip() for run in runs}
    assert len(outputs) == 1
    assert len(outputs.pop()) == 64
