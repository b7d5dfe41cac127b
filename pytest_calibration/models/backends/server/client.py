"""Requests to a server: bounded in size and time, tried again where that may help.

Nothing that a server answers is believed here beyond its form: what does not have the form of the
API raises.
"""

from __future__ import annotations

import socket
import ssl
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from threading import Event, Timer, local
from typing import Any, Final, TypeVar, cast

import httpx
import msgspec
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_before_delay,
    stop_when_event_set,
    wait_random_exponential,
)

from pytest_calibration.errors import ModelError, UntrustedServerError
from pytest_calibration.models.backends.server.address import (
    KEY,
    authorization,
    proxy_of,
    redacted,
)
from pytest_calibration.models.backends.server.replies import Completion
from pytest_calibration.text.visible import visible

T = TypeVar("T")

MOST_BYTES: Final = 64 << 20
"""Of one reply."""
CONNECT_SECONDS: Final = 10.0
START_SECONDS: Final = 20.0
"""In which a server must answer at all, all tries together."""
TRY_SECONDS: Final = 120.0
"""In which one try must be answered, but the first: a fresh server is slow once."""
FIRST_WAIT: Final = 0.5
"""Seconds before a second try, at most; twice as long before each further one."""
_MOST_WAIT: Final = 30.0
_GRACE: Final = 1.0
_AGAIN: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})


class _AgainError(Exception):
    """A try that failed and may succeed later; ``wait`` is how many seconds the server asks for."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class RefusedError(ModelError):
    """The server answered that it does not do what was asked."""


class Client:
    """Speaks to one server; any number of threads may use it.

    Args:
        base: address of its API, such as ``http://host:8000/v1``.
        patience: seconds in which a request must be answered, all tries together.
        concurrency: connections at one time.

    Attributes:
        base: as given.
    """

    def __init__(self, base: str, patience: float, concurrency: int) -> None:
        self.base = base
        self._patience = patience
        self._warm = False
        self._abandoned = Event()
        self._of_thread = local()
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        # Without compression, so that a reply is as large as it looks. No redirect is followed: it
        # would take the key elsewhere.
        try:
            self._http = httpx.Client(
                headers={"Accept-Encoding": "identity", "Accept": "application/json"},
                follow_redirects=False,
                limits=httpx.Limits(
                    max_connections=concurrency, max_keepalive_connections=concurrency
                ),
                verify=httpx.create_ssl_context(),
                proxy=proxy_of(base),
                trust_env=False,
            )
        except (httpx.InvalidURL, ValueError, ImportError, OSError) as problem:
            raise ModelError(
                f"no connection to {base} can be made with the proxy or the certificates that the "
                f"environment names ({_reason(problem)}); see HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, "
                "NO_PROXY, SSL_CERT_FILE and SSL_CERT_DIR."
            ) from None
        # A model that is dropped leaves no connection behind.
        weakref.finalize(self, self._http.close)

    def close(self) -> None:
        """End what waits, also in other threads, and close all connections."""
        self.abandon()
        self._http.close()

    def abandon(self) -> None:
        """End what waits, also in other threads; what is asked later is asked as before."""
        abandoned, self._abandoned = self._abandoned, Event()
        abandoned.set()
        self._hang_up()

    @contextmanager
    def until(self, stop: Event) -> Iterator[None]:
        """End what this thread asks in the block once the event is set and :meth:`abandon` called.

        Also what it is about to ask then, and no other thread sees.
        """
        self._of_thread.stop = stop
        try:
            yield
        finally:
            del self._of_thread.stop

    @property
    def _stop(self) -> Event:
        return cast(Event, getattr(self._of_thread, "stop", self._abandoned))

    def _hang_up(self) -> None:
        """Cut all connections: threads that wait for an answer would wait on."""
        for one in list(self._sockets):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Remember the sockets that are opened."""
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            opened = info["return_value"].get_extra_info("socket")
            self._sockets.add(opened)
            # Opened too late to be cut with the others.
            if self._stop.is_set():
                with suppress(OSError):
                    opened.shutdown(socket.SHUT_RDWR)

    def get(self, path: str, form: type[T], *, root: bool = False) -> T:
        """Ask for something small, at the API or (``root``) at the root of the server.

        Raises:
            RefusedError: there is no such thing.
            ModelError: the server cannot be reached, or does not answer in time.
            UntrustedServerError: the answer has another form.
        """
        url = httpx.URL(self.base)
        address = str(url.copy_with(raw_path=path.encode())) if root else f"{self.base}{path}"
        return self._decoded(self._patient("GET", address, None, START_SECONDS), address, form)

    def post(self, path: str, body: Mapping[str, Any], form: type[T], *, root: bool = False) -> T:
        """Send a request with a body; errors as for :meth:`get`."""
        url = httpx.URL(self.base)
        address = str(url.copy_with(raw_path=path.encode())) if root else f"{self.base}{path}"
        content = self._patient("POST", address, msgspec.json.encode(body), self._patience)
        # What the root answers needs no model.
        self._warm = self._warm or not root
        return self._decoded(content, address, form)

    def complete(self, body: Mapping[str, Any]) -> Completion:
        """Ask for a completion."""
        return self.post("/completions", body, Completion)

    # --- how -----------------------------------------------------------------------------------

    def _patient(self, method: str, address: str, body: bytes | None, patience: float) -> bytes:
        """Try until there is an answer; return its content."""
        began, stop = time.monotonic(), self._stop
        tries = Retrying(
            retry=retry_if_exception_type(_AgainError),
            stop=stop_before_delay(patience) | stop_when_event_set(stop),
            wait=_wait,
            sleep=sleep_using_event(stop),
            reraise=True,
        )
        longest = TRY_SECONDS if self._warm else patience
        try:
            for attempt in tries:
                with attempt:
                    now = time.monotonic()
                    end = min(began + patience, now + longest)
                    return self._once(method, address, body, end)
        except _AgainError as problem:
            reason = str(problem)
        what = f"{method} {httpx.URL(address).path}"
        more = (
            ""
            if body is None
            else ", or give it more time (model: {patience: SECONDS} in calibration.yaml)"
        )
        raise ModelError(
            f"the server {self.base} did not answer {what} in {patience:g} s (the last try: "
            f"{reason.rstrip('.')}); see that it runs and is reachable{more}."
        )

    def _once(self, method: str, address: str, body: bytes | None, end: float) -> bytes:
        """Try once, until ``end``; return the content of a good reply."""
        left = max(end - time.monotonic(), 0.1)
        # The time limit below is that of each byte: it does not end one that sends a few for ever.
        watch = Timer(left + _GRACE, self._hang_up)
        watch.daemon = True
        watch.start()
        # What a library raises holds the request with its key, so nothing is chained to it.
        try:
            with self._http.stream(
                method,
                address,
                content=body,
                headers={
                    **authorization(self.base),
                    **({"Content-Type": "application/json"} if body else {}),
                },
                timeout=httpx.Timeout(left, connect=min(left, CONNECT_SECONDS)),
                extensions={"trace": self._trace},
            ) as reply:
                status, headers = reply.status_code, reply.headers
                content = self._content(reply)
        except httpx.InvalidURL as problem:
            raise ModelError(f"{self.base} is no address: {problem}.") from None
        except httpx.TimeoutException:
            raise _AgainError("it took too long") from None
        except (httpx.HTTPError, httpx.StreamError, RuntimeError) as problem:
            if _is_of_certificate(problem):
                raise ModelError(
                    f"the server {self.base} shows a certificate that is not trusted here "
                    f"({_reason(problem)}); use the name that it is for, or name the file of the "
                    "authority that signed it in SSL_CERT_FILE."
                ) from None
            raise _AgainError(_reason(problem)) from None
        finally:
            watch.cancel()
        if 200 <= status < 300:
            return content
        said = f"HTTP {status}{_said(content)}"
        if status in _AGAIN:
            raise _AgainError(said, _seconds(headers.get("retry-after", "")))
        if 300 <= status < 400:
            raise UntrustedServerError(
                f"the server {self.base} redirects to another place ({said}), which is not "
                "followed, since the key would go there; give the address that it redirects to."
            )
        if status in (401, 403):
            raise ModelError(
                f"the server {self.base} refuses the key of {KEY}, or asks for one ({said}); set "
                "that environment variable."
            )
        raise RefusedError(f"the server {self.base} refuses a request ({said}).")

    def _content(self, reply: httpx.Response) -> bytes:
        """Read a reply as far as is allowed."""
        coding = reply.headers.get("content-encoding", "identity").strip().lower()
        if coding not in ("", "identity"):
            raise UntrustedServerError(
                f"the server {self.base} compresses its replies ({visible(coding, 40)}), which it "
                "was told not to do; a proxy may do so: ask the server itself."
            )
        parts, size = [], 0
        for part in reply.iter_raw():
            size += len(part)
            if size > MOST_BYTES:
                raise UntrustedServerError(
                    f"the server {self.base} sends a reply of more than {MOST_BYTES >> 20} MiB; no "
                    "answer of a completions API is as large."
                )
            parts.append(part)
        return redacted(b"".join(parts))

    def _decoded(self, content: bytes, address: str, form: type[T]) -> T:
        try:
            return msgspec.json.decode(content, type=form)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as problem:
            raise UntrustedServerError(
                f"the server {self.base} answers {httpx.URL(address).path} with what is no reply "
                f"of this API ({str(problem)[:200].rstrip('.')})."
            ) from None


def _wait(state: RetryCallState) -> float:
    """Wait as long as the server asks, within reason, or twice as long each time with jitter."""
    problem = state.outcome.exception() if state.outcome else None
    asked = problem.wait if isinstance(problem, _AgainError) else 0.0
    jitter: float = wait_random_exponential(FIRST_WAIT, _MOST_WAIT)(state)
    return max(min(asked, _MOST_WAIT), jitter)


def _reason(problem: Exception) -> str:
    return visible(" ".join(str(problem).split()), 200).rstrip(".") or type(problem).__name__


def _is_of_certificate(problem: BaseException | None) -> bool:
    """Whether an error comes from a certificate, which a second try does not change."""
    while problem is not None and not isinstance(problem, ssl.SSLCertVerificationError):
        problem = problem.__cause__ or problem.__context__
    return problem is not None


def _seconds(text: str) -> float:
    return float(text) if text.isascii() and text.isdecimal() and len(text) < 9 else 0.0


def _said(content: bytes) -> str:
    """Return what an error reply says, quoted; of a reply in JSON its message."""
    text = content[:2000].decode("utf-8", "replace")
    try:
        value = msgspec.json.decode(content)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        value = None
    for name in ("error", "message", "detail"):
        if isinstance(value, dict) and name in value:
            value = value[name]
            text = value if isinstance(value, str) else str(value)[:2000]
    text = redacted(" ".join(text.split()).encode("utf-8", "replace")).decode()
    return f": {visible(text, 200)}" if text else ""
