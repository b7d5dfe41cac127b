"""A server that lies, breaks or attacks is refused in one sentence, or survived; never believed."""

from __future__ import annotations

import gzip
import itertools
import json
import re
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("httpx")
pytest.importorskip("tenacity")

from stub_server import MODEL, WORDS, Handler, Reply, Stub, serving

from pytest_calibration.errors import CalibrationError, ModelError, UntrustedServerError
from pytest_calibration.models.backends.server import client, server_model
from pytest_calibration.models.backends.server.address import KEY
from pytest_calibration.models.cache import Cache
from pytest_calibration.models.loading import LazyModel, load_model

pytestmark = pytest.mark.torch

SECRET = "sk-swordfish-1234567890"
QUESTION = (["The capital of France is:"], [["A", "B", "C", "D"]])


@pytest.fixture(scope="module")
def shared(checkpoints: dict[str, Path]) -> Iterator[Stub]:
    """Return a server for all tests."""
    with serving(checkpoints["gpt_neox"]) as stub:
        yield stub


@pytest.fixture
def stub(shared: Stub, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    """Return an honest server, asked by a client that holds a key and waits for nothing long."""
    monkeypatch.setenv(KEY, SECRET)
    monkeypatch.setattr(client, "FIRST_WAIT", 0.01)
    shared.asked.clear()
    shared.headers.clear()
    before = dict(vars(shared))
    yield shared
    vars(shared).update(before)


def served(stub: Stub, cache: Cache | None = None, **settings: Any) -> LazyModel:
    """Return the model that a server has."""
    return load_model(f"{stub.address}#{MODEL}", cache=cache, **settings)


def ask(stub: Stub, **settings: Any) -> Any:
    """Ask one question."""
    return served(stub, **settings).option_logprobs(*QUESTION)


def refused(stub: Stub, kind: type[ModelError] = UntrustedServerError, **settings: Any) -> str:
    """Ask one question; return the sentence in which it is refused."""
    with pytest.raises(kind) as caught:
        ask(stub, **settings)
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message
    shown = "".join(
        traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
    )
    assert SECRET not in message + shown
    return message


def logprobs(reply: Reply, change: Callable[[float], Any]) -> Reply:
    """Change each log-probability of a completion."""
    for choice in reply.get("choices", []):
        said = choice["logprobs"]
        said["token_logprobs"] = [v if v is None else change(v) for v in said["token_logprobs"]]
        said["top_logprobs"] = [
            {k: change(v) for k, v in (top or {}).items()} for top in said["top_logprobs"]
        ]
        for entry in choice.get("prompt_logprobs") or []:
            for one in (entry or {}).values():
                one["logprob"] = change(one["logprob"])
    return reply


def prompt(reply: Reply, change: Callable[[list[Any]], list[Any]]) -> Reply:
    """Change the list of what is said of the prompt."""
    for choice in reply.get("choices", []):
        if choice.get("prompt_logprobs"):
            choice["prompt_logprobs"] = change(choice["prompt_logprobs"])
    return reply


def shifted(entries: list[Any]) -> list[Any]:
    """Give each token what belongs to the token after it."""
    values = [[one["logprob"] for one in (e or {}).values()] for e in entries]
    moved = [*values[2:], values[1]]
    return [None] + [
        {k: {"logprob": moved[i][0]} for k in list(e)[-1:]} for i, e in enumerate(entries[1:])
    ]


def without_a_label(reply: Reply) -> Reply:
    """Leave a label out."""
    for choice in reply.get("choices", []):
        for top in choice["logprobs"]["top_logprobs"]:
            if top and len(top) > 3:
                top.pop(next(iter(top)))
    return reply


NUMBERS = itertools.count()
LIES: dict[str, tuple[Callable[[Reply], Reply], str]] = {
    "zeros": (lambda r: logprobs(r, lambda _: 0.0), "more than 1|the same log-probability"),
    "constant": (lambda r: logprobs(r, lambda _: -1.5), "the same log-probability"),
    "positive": (lambda r: logprobs(r, lambda v: -v), "is above 0"),
    "null": (
        lambda r: logprobs(r, lambda _: None),
        "None as a log-prob|no reply of this API",
    ),
    "nan": (lambda r: logprobs(r, lambda _: float("nan")), "no reply of this API"),
    "infinite": (lambda r: logprobs(r, lambda _: float("-inf")), "no reply of this API"),
    "too-short": (lambda r: prompt(r, lambda p: p[:-1]), "log-probabilities for a prompt of"),
    "too-long": (
        lambda r: prompt(r, lambda p: [*p, p[-1]]),
        "log-probabilities for a prompt",
    ),
    "shifted": (lambda r: prompt(r, shifted), "nats apart, as where they are given to the"),
    "other-tokens": (
        lambda r: prompt(r, lambda p: [None, *({"7": {"logprob": -1.0}} for _ in p[1:])]),
        "of other tokens",
    ),
    "random": (
        lambda r: logprobs(r, lambda _: -1.0 - next(NUMBERS) % 7),
        "cannot be trusted",
    ),
    "no-context": (
        lambda r: prompt(
            r, lambda p: [None, *({k: {"logprob": -3 - int(k) / 99} for k in e} for e in p[1:])]
        ),
        "nats apart|no likelier",
    ),
    "another-model": (lambda r: {**r, "model": "gpt-9"}, "'gpt-9' answered"),
    "two-answers": (
        lambda r: {**r, "choices": r["choices"] * 2} if "choices" in r else r,
        "2 answers to one prompt",
    ),
    "more-tokens": (
        lambda r: (
            {**r, "usage": {"prompt_tokens": r["usage"]["prompt_tokens"] + 1}}
            if "usage" in r
            else r
        ),
        r"it read \d+ tokens where \d+ were sent",
    ),
    "no-logprobs": (
        lambda r: {**r, "choices": [{"text": "x"}]} if "choices" in r else r,
        "gives no log-probabilities",
    ),
    "another-tokenizer": (
        lambda r: {"tokens": [1, 2, 3]} if "tokens" in r else r,
        "or others; name the one that it uses",
    ),
    "models": (
        lambda r: {"data": [{"id": "a\n\x1b[31mb"}]} if "data" in r else r,
        r"has no model 'tiny', but a\\n\\x1b\[31mb",
    ),
    "list": (lambda r: [r], "no reply of this API"),
    "types": (lambda r: {"data": "many", "choices": len(r)}, "no reply of this API"),
}


@pytest.mark.parametrize(("lie", "reason"), LIES.values(), ids=LIES)
def test_made_up_numbers_are_refused(
    stub: Stub, lie: Callable[[Reply], Reply], reason: str
) -> None:
    """What cannot be the model's own numbers is told before any probe is asked."""
    stub.spoil = lie
    assert re.search(reason, refused(stub))
    assert QUESTION[0][0] not in [stub.tokenizer.decode(b["prompt"]) for b in stub.completions]


def test_processed_log_probabilities_are_refused(stub: Stub) -> None:
    """Those after the temperature are not the model's own."""
    stub.processed = True
    assert "change with the temperature" in refused(stub)


def test_an_echo_that_is_off_by_one_is_refused(stub: Stub) -> None:
    """A server whose echo gives each token what belongs to the next, and nothing else to compare.

    Its echo agrees with itself; the token that it writes has another log-probability.
    """
    stub.knows = WORDS - {"prompt_logprobs", "logprob_token_ids", "allowed_token_ids"}

    def off_by_one(reply: Reply) -> Reply:
        body = stub.asked[-1][1]
        if body.get("echo"):
            ids = body["prompt"]
            rows = stub.scores(ids)
            said = reply["choices"][0]["logprobs"]
            said["token_logprobs"][1 : len(ids)] = [
                float(rows[i][token]) for i, token in enumerate(ids[1:], 1)
            ]
        return reply

    stub.spoil = off_by_one
    assert "have other log-probabilities when it reads them" in refused(stub)


def test_a_lie_that_begins_later_is_found(stub: Stub) -> None:
    """Each reply is checked, not those to the first questions alone."""
    model = served(stub)
    model.option_logprobs(*QUESTION)
    stub.spoil = without_a_label
    with pytest.raises(UntrustedServerError, match="no log-probability of 1 of 4 tokens"):
        model.option_logprobs(*QUESTION)


def raw(content: bytes, **headers: str) -> Callable[[Handler, bytes], bool]:
    """Answer with this."""

    def answer(handler: Handler, _: bytes) -> bool:
        handler.send(content, **headers)
        return True

    return answer


def bytes_on_the_wire(content: bytes) -> Callable[[Handler, bytes], bool]:
    """Answer with this, not even HTTP, and hang up."""

    def answer(handler: Handler, _: bytes) -> bool:
        handler.wfile.write(content)
        handler.close_connection = True
        return True

    return answer


def status(code: int, content: bytes = b"", **headers: str) -> Callable[[Handler, bytes], bool]:
    """Answer with an error."""

    def answer(handler: Handler, _: bytes) -> bool:
        handler.send(content, code, **headers)
        return True

    return answer


def trickle(handler: Handler, content: bytes) -> bool:
    """Send a byte now and then, for ever."""
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(b" ")
        time.sleep(0.02)
    return True


AGAIN = r"did not answer GET /v1/models in 0\.3 s \(the last try: .+\); see that it runs"
HTTP = b"HTTP/1.1 200 OK\r\n"
ATTACKS: dict[str, tuple[Callable[[Handler, bytes], bool], type[ModelError], str]] = {
    "garbage": (raw(b"{]"), UntrustedServerError, "no reply of this API"),
    "html": (raw(b"<html>Welcome"), UntrustedServerError, "no reply of this API"),
    "empty": (raw(b""), UntrustedServerError, "no reply of this API"),
    "not-utf-8": (raw(b'{"data": "\xff\xfe"}'), UntrustedServerError, "no reply of this API"),
    "deep": (raw(b"[" * 100_000), UntrustedServerError, "no reply of this API"),
    "long-number": (raw(b'{"data": ' + b"9" * 9999 + b"}"), UntrustedServerError, "no reply"),
    "huge": (raw(b" " * 300_000), UntrustedServerError, "a reply of more than 0 MiB"),
    "gzip-bomb": (
        raw(gzip.compress(b" " * 10_000_000), Content_Encoding="gzip"),
        UntrustedServerError,
        "compresses its replies .gzip.",
    ),
    "redirect": (
        status(307, Location="http://127.0.0.1:1/v1/models"),
        UntrustedServerError,
        "redirects to another place",
    ),
    "key-repeated": (
        status(401, b'{"error": {"message": "bad key ' + SECRET.encode() + b'"}}'),
        ModelError,
        r"bad key \*\*\*\); set that environment variable",
    ),
    "colours": (status(400, b'{"detail": "\\u001b[31mno"}'), ModelError, r"\\x1b\[31mno"),
    "no-api": (status(404, b"nothing"), ModelError, "no completions API lies at"),
    "errors": (status(503, b"busy"), ModelError, AGAIN),
    "wait-for-ever": (status(429, Retry_After="99999999"), ModelError, AGAIN),
    "bad-wait": (status(429, Retry_After="-1e999\t"), ModelError, AGAIN),
    "hang-up": (bytes_on_the_wire(b""), ModelError, AGAIN),
    "cut": (
        bytes_on_the_wire(HTTP + b'Content-Length: 99\r\n\r\n{"data"'),
        ModelError,
        AGAIN,
    ),
    "no-http": (bytes_on_the_wire(b"SSH-2.0-OpenSSH\r\n"), ModelError, AGAIN),
    "injected-header": (
        bytes_on_the_wire(HTTP + b"X: a\r\n b: c\r\nContent-Length\r\n : 0\x00\r\n\r\n"),
        ModelError,
        AGAIN,
    ),
    "endless-header": (bytes_on_the_wire(HTTP + b"X: " + b"a" * 300_000), ModelError, AGAIN),
    "slow": (trickle, ModelError, AGAIN),
}


@pytest.mark.parametrize(("attack", "kind", "reason"), ATTACKS.values(), ids=ATTACKS)
def test_broken_replies_end_in_one_sentence(
    stub: Stub,
    monkeypatch: pytest.MonkeyPatch,
    attack: Callable[[Handler, bytes], bool],
    kind: type[ModelError],
    reason: str,
) -> None:
    """Whatever comes over the wire ends in time, in bounds, and without the key in any text."""
    monkeypatch.setattr(client, "MOST_BYTES", 200_000)
    if kind is ModelError:
        # What is tried again until then.
        monkeypatch.setattr(client, "START_SECONDS", 0.3)
    stub.raw = attack
    assert re.search(reason, refused(stub, kind))


@pytest.mark.parametrize(
    "attack",
    [
        status(429, Retry_After="0"),
        status(503, b"loading"),
        bytes_on_the_wire(b""),
        bytes_on_the_wire(HTTP + b"Content-Length: 99\r\n\r\n{"),
    ],
    ids=["429", "503", "hang-up", "cut"],
)
def test_a_failure_that_passes_is_survived(
    stub: Stub, attack: Callable[[Handler, bytes], bool]
) -> None:
    """A request that fails now and then is sent again, and the numbers are the same."""
    want = ask(stub)
    calls = iter(range(1000))
    stub.raw = lambda handler, content: next(calls) % 3 == 0 and attack(handler, content)
    assert (ask(stub)[0] == want[0]).all()


@pytest.mark.parametrize("kind", [KeyboardInterrupt, ModelError])
def test_a_run_that_ends_waits_for_no_answer(
    stub: Stub, kind: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads that wait for a server end with the run, not when the server answers.

    The next test can still ask the model.
    """
    model = served(stub)
    model.load()
    over = threading.Event()
    calls = itertools.count()
    stub.raw = lambda *_: next(calls) > 0 and over.wait()

    def interrupt(done: int, *_: object) -> None:
        if done:
            raise kind

    monkeypatch.setattr(server_model.PROGRESS, "report", interrupt)
    with pytest.raises(kind):
        model.option_logprobs(["Rome:", "Paris:", "Oslo:"], [["A", "B"]] * 3)
    waiting = [one for one in threading.enumerate() if one.name.startswith("calibration-server")]
    for thread in waiting:
        thread.join(60)
    assert not any(thread.is_alive() for thread in waiting)
    over.set()
    stub.raw = None
    monkeypatch.setattr(server_model.PROGRESS, "report", lambda *_: None)
    assert len(model.option_logprobs(["Rome:"], [["A", "B"]])) == 1


def test_a_server_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens: one sentence, soon."""
    monkeypatch.setattr(client, "START_SECONDS", 0.3)
    with pytest.raises(ModelError, match=r"did not answer GET /v1/models in 0\.3 s .*onnection"):
        load_model("http://127.0.0.1:9/v1#tiny").option_logprobs(*QUESTION)


def test_the_key_goes_to_the_server_alone(stub: Stub, tmp_path: Path) -> None:
    """Each request has the key; no file, message or representation has it."""
    model = served(stub, Cache(tmp_path))
    model.option_logprobs(*QUESTION)
    assert {headers.get("authorization") for headers in stub.headers} == {f"Bearer {SECRET}"}
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 1
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]
    shown = [repr(vars(one)) for one in (model, model.load(), model.load().service.client)]
    assert SECRET not in "".join(shown) + json.dumps(dict(model.description))


def test_a_key_that_would_be_two_headers_is_refused(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line end in the key is told without the key."""
    monkeypatch.setenv(KEY, f"{SECRET}\r\nX-Other: 1")
    with pytest.raises(ValueError, match=f"{KEY} holds a space, a line end") as caught:
        ask(stub)
    assert SECRET not in str(caught.value)
    assert not stub.asked


def test_a_model_that_is_exchanged_meanwhile_is_found(
    stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the end the server proves itself again; what another model answered is not kept."""
    model = served(stub, Cache(tmp_path))
    model.load()

    stub.spoil = lambda reply: logprobs(reply, lambda value: value - 0.2)
    with pytest.raises(UntrustedServerError, match=r"changed while it was asked: .* 0\.2 nats"):
        model.option_logprobs(*QUESTION)
    stub.spoil = None
    stub.asked.clear()
    (found,) = served(stub, Cache(tmp_path)).option_logprobs(*QUESTION)
    prompt = stub.tokenizer(QUESTION[0][0])["input_ids"]
    # Once for the answer, and again to see that it stays the same.
    assert [body["prompt"] for body in stub.completions].count(prompt) == 2
    assert (found == ask(stub)[0]).all()


def test_answers_that_are_mixed_up_are_found(stub: Stub) -> None:
    """A server that gives one question the answer to another gives it its own when asked again."""
    model = served(stub)
    model.load()
    prompts = [f"Question {i}: the capital is" for i in range(8)]

    def swapped(reply: dict[str, Any]) -> dict[str, Any]:
        prompt = stub.completions[-1]["prompt"]
        if stub.completions.count(stub.completions[-1]) > 1 or len(prompt) < 8:
            return reply
        return logprobs(reply, lambda value: value - 2.0 * (value < -1.0))

    stub.spoil = swapped
    with pytest.raises(UntrustedServerError, match=r"asked again alone .* mixed up"):
        model.option_logprobs(prompts, [["A", "B", "C", "D"]] * 8)


@pytest.mark.parametrize("key", ["EMPTY", "token", "1", MODEL])
def test_a_key_that_is_a_word_changes_no_reply(
    stub: Stub, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a server wants no key people set any; it is found in replies, and is no secret."""
    want = ask(stub)
    monkeypatch.setenv(KEY, key)
    assert (ask(stub)[0] == want[0]).all()


def test_a_model_has_several_names(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """VLLM answers under the first of the names of a model, whichever was asked for."""
    entries = [{"id": one, "root": str(stub.folder)} for one in ("first", MODEL)]
    other = {"id": "other", "root": "/another"}
    listed = {"data": [*entries, other]}
    stub.spoil = lambda reply: listed if "data" in reply else {**reply, "model": "first"}
    want = ask(stub)
    stub.spoil = lambda reply: listed if "data" in reply else {**reply, "model": "other"}
    assert "'other' answered" in refused(stub)
    stub.spoil = None
    assert (ask(stub)[0] == want[0]).all()


@pytest.mark.parametrize("longest", [-(10**30), -1, 0, 2])
def test_a_length_that_no_question_fits_into_is_named(stub: Stub, longest: int) -> None:
    """The server says it of itself, so no item is to blame."""
    entry = {"id": MODEL, "root": str(stub.folder), "max_model_len": longest}
    stub.spoil = lambda reply: {"data": [entry]} if "data" in reply else reply
    words = (
        f"says that '{MODEL}' reads at most {longest:,} tokens (max_model_len), where a question"
    )
    assert words in refused(stub)


def test_a_length_beyond_all_questions_is_none(stub: Stub) -> None:
    """A placeholder leaves it to the server to refuse what is too long."""
    want = ask(stub)
    entry = {"id": MODEL, "root": str(stub.folder), "max_model_len": 10**30}
    stub.spoil = lambda reply: {"data": [entry]} if "data" in reply else reply
    assert (ask(stub)[0] == want[0]).all()


def test_what_a_server_calls_itself_is_made_visible(stub: Stub) -> None:
    """Names in a message are short and without what a terminal obeys; no such id is taken."""
    evil = "a\x1b[31m\n" + "b" * 5000
    stub.spoil = lambda reply: {"data": [{"id": evil}]} if "data" in reply else reply
    message = refused(stub)
    assert len(message) < 300
    assert "\x1b" not in message
    with pytest.raises(UntrustedServerError, match="which is no name"):
        load_model(stub.address).load()


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ({"HTTP_PROXY": "http://proxy:3128"}, f"the key of {KEY} would be read by the proxy"),
        ({"ALL_PROXY": "nonsense://x"}, "Unknown scheme for proxy URL"),
        ({"SSL_CERT_FILE": "/not/there"}, "see HTTP_PROXY"),
    ],
)
def test_a_proxy_that_would_read_the_key_is_refused(
    stub: Stub, names: dict[str, str], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the environment says of proxies and certificates counts, and is told where it fails.

    This machine itself needs no proxy.
    """
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    if "SSL_CERT_FILE" not in names:
        ask(stub)
    with pytest.raises(CalibrationError, match=reason):
        load_model(f"http://server.invalid/v1#{MODEL}").load()


def test_answers_of_other_weights_are_not_used(stub: Stub, tmp_path: Path) -> None:
    """A server that gives other log-probabilities is another, also under the same name."""
    first = served(stub, Cache(tmp_path)).option_logprobs(*QUESTION)
    stub.spoil = lambda reply: logprobs(reply, lambda value: value * 1.01)
    other = served(stub, Cache(tmp_path)).option_logprobs(*QUESTION)
    assert (other[0] != first[0]).all()
    stub.spoil = None
    stub.asked.clear()
    again = served(stub, Cache(tmp_path))
    assert (again.option_logprobs(*QUESTION)[0] == first[0]).all()
    assert again.computed == 0
