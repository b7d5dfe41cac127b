"""Addresses of servers, and settings; no server is asked, and nothing heavy is loaded."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pytest_calibration.errors import UsageError
from pytest_calibration.models.backends import backend_named
from pytest_calibration.models.backends.server.address import KEY, authorization, redacted, split
from pytest_calibration.models.spec import parse_spec, resolve


@pytest.mark.parametrize(
    ("text", "base", "model"),
    [
        ("http://host:8000/v1#owner/model", "http://host:8000/v1", "owner/model"),
        ("HTTPS://Host/v1/#m", "https://host/v1", "m"),
        ("http://127.0.0.1:1/v1", "http://127.0.0.1:1/v1", ""),
        ("http://[::1]:8000/v1#m", "http://[::1]:8000/v1", "m"),
        ("http://host/v1#/models/a@b", "http://host/v1", "/models/a@b"),
    ],
)
def test_an_address_is_read(text: str, base: str, model: str) -> None:
    """What follows the '#' is the model, the rest is where the API lies."""
    spec = parse_spec(text)
    assert spec.backend == "server"
    assert not spec.local
    assert split(spec) == (base, model)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("http://", "is no address of a server; write http://host:port/v1#model"),
        ("http://host:port/v1#m", "is no address: Port could not be cast"),
        ("http://host/v1#a b", "is no address of a server"),
        ("http://host/v1#a\r\nX-Injected: 1", "is no address of a server"),
        ("http://me:sesame@host/v1", f"put the server's key into the environment variable {KEY}"),
        ("http://host/v1?key=sesame", f"a key belongs into the environment variable {KEY}"),
    ],
)
def test_what_is_no_address_is_told(text: str, reason: str) -> None:
    """One sentence says what is wrong, and shows no password."""
    with pytest.raises(UsageError, match=reason) as caught:
        parse_spec(text)
    assert "sesame" not in str(caught.value)


def test_models_are_named_by_their_ids() -> None:
    """A name is the last part of the id, or more of it where two are alike; the host is no part."""
    specs = resolve(
        ["http://h:1/v1#org/base", "http://h:1/v1#org/sft", "prod=http://h:2/v1#org/sft"]
    )
    assert [spec.name for spec in specs] == ["base", "sft", "prod"]
    assert specs[2].baseline == "prod"
    alike = resolve(["http://h:1/v1#org/base", "http://h:1/v1#other/base"])
    assert [spec.name for spec in alike] == ["org-base", "other-base"]


def test_the_key_is_read_when_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is taken from the environment of that moment, and struck out of what a server says."""
    monkeypatch.delenv(KEY, raising=False)
    assert authorization("http://host") == {}
    assert redacted(b"a key") == b"a key"
    monkeypatch.setenv(KEY, "sesame-7")
    assert authorization("http://host") == {"Authorization": "Bearer sesame-7"}
    assert redacted(b"no: sesame-7!") == b"no: ***!"


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"concurrency": 0}, "concurrency must be between 1 and 1,024, got 0"),
        ({"concurrency": True}, "concurrency must be a whole number, got True"),
        ({"patience": 0}, "patience must be a finite number of seconds above 0, got 0"),
        ({"patience": float("inf")}, "patience must be a finite number of seconds above 0"),
        ({"tokenizer": 3}, "tokenizer must be text or null, got 3"),
    ],
)
def test_settings_are_checked(settings: dict[str, object], reason: str) -> None:
    """A value that makes no sense is told by name."""
    with pytest.raises(UsageError, match=reason):
        backend_named("server").Settings.chosen(settings)


def test_an_address_loads_no_client() -> None:
    """To read a spec, as at the start of every run, nothing that asks a server is imported."""
    code = (
        "import sys\nfrom pytest_calibration.models.spec import parse_spec\n"
        "parse_spec('http://h/v1#m')\n"
        "print([m for m in ('httpx', 'tenacity', 'msgspec', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
