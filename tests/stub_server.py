"""A completions server around a tiny checkpoint, which can be made to lie in many ways.

It speaks vLLM's dialect, or less of it, and keeps count of what it was asked.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import numpy as np

MODEL: Final = "tiny"
WORDS: Final = frozenset(
    {"logprob_token_ids", "allowed_token_ids", "prompt_logprobs", "echo", "ignore_eos"}
    | {"return_tokens_as_token_ids", "include_stop_str_in_output", "tokenize"}
    | {"top_k", "min_p", "repetition_penalty"}
)
"""What it knows beyond the plain completions API."""

Reply = dict[str, Any]


@dataclass
class Stub:
    """A running server.

    Attributes:
        folder: the checkpoint.
        knows: words of ``WORDS`` that it knows.
        strict: whether it refuses words that it does not know, instead of passing over them.
        spoil: changes a good reply before it is sent.
        raw: given the handler and the whole reply; True where it has answered itself.
        processed: whether its log-probabilities are those after the temperature.
        asked: (path, request) of each request, in their order.
        headers: of each request.
        address: of its API.
    """

    folder: Path
    knows: frozenset[str] = WORDS
    strict: bool = False
    spoil: Callable[[Reply], Reply] | None = None
    raw: Callable[[Handler, bytes], bool] | None = None
    processed: bool = False
    asked: list[tuple[str, Reply]] = field(default_factory=list)
    # Not shown: they hold the key of the one who asks.
    headers: list[dict[str, str]] = field(default_factory=list, repr=False)
    address: str = ""
    lock: Any = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.tokenizer: Any = AutoTokenizer.from_pretrained(self.folder)
        self.model: Any = AutoModelForCausalLM.from_pretrained(self.folder).eval()
        # Servers keep what prompts begin with, too.
        self._scores = lru_cache(256)(self._scored)
        self.longest = int(self.model.config.max_position_embeddings)

    @property
    def completions(self) -> list[Reply]:
        """The requests for completions."""
        return [body for path, body in self.asked if path == "/v1/completions"]

    def scores(self, ids: Sequence[int]) -> Any:
        """Return log P(next token) at each token, (n, vocabulary)."""
        return self._scores(tuple(ids)).copy()

    def _scored(self, ids: tuple[int, ...]) -> Any:
        import torch

        with self.lock, torch.inference_mode():
            logits = self.model(torch.tensor([list(ids)])).logits[0].double()
            return torch.log_softmax(logits, -1).numpy()

    def reply(self, path: str, body: Reply) -> tuple[int, Reply]:
        """Return status and reply."""
        if path == "/v1/models":
            entry = {"id": MODEL, "root": str(self.folder), "max_model_len": self.longest}
            return 200, {"object": "list", "data": [entry]}
        if path == "/version":
            return 200, {"version": "1.2.3"}
        if path == "/tokenize" and "tokenize" in self.knows:
            ids = self.tokenizer(body["prompt"], add_special_tokens=False)["input_ids"]
            return 200, {"tokens": ids, "count": len(ids)}
        if path == "/v1/completions":
            return self._complete(body)
        if path == "/v1/systemone":
            return 200, self._decide(body)
        return 404, {"detail": "Not Found"}

    def decision(self, state: str, options: Sequence[str]) -> list[float]:
        """Return the probability of each option: of its last token after the state."""
        row = self.scores(self.tokenizer(state)["input_ids"])[-1]
        weights = np.exp([row[self.tokenizer(one)["input_ids"][-1]] / 4 for one in options])
        return [float(one) for one in weights / weights.sum()]

    def _decide(self, body: Reply) -> Reply:
        answers = {}
        for name, question in body["questions"].items():
            options = list(question["criteria"])
            found = self.decision(body["state"], options)
            best = max(found)
            answers[name] = {
                "type": "choice",
                "choice": options[found.index(best)],
                "confidence": max(0.0, (best * len(found) - 1) / (len(found) - 1)),
                "probabilities": dict(zip(options, found, strict=True)),
            }
        return {"model": body["model"], "answers": answers}

    def _complete(self, body: Reply) -> tuple[int, Reply]:
        unknown = sorted((body.keys() & WORDS) - self.knows)
        if unknown and self.strict:
            return 400, {"error": {"message": f"unknown field {unknown[0]}"}}
        if body["model"] != MODEL:
            return 404, {"error": {"message": f"The model `{body['model']}` does not exist."}}
        known = {key: value for key, value in body.items() if key not in unknown}
        prompt = known["prompt"]
        if isinstance(prompt, str):
            prompt = self.tokenizer(prompt)["input_ids"]
        if len(prompt) + known["max_tokens"] > self.longest:
            return 400, {"error": {"message": f"maximum context length is {self.longest}"}}
        return 200, self._choice(known, list(prompt))

    def _choice(self, body: Reply, prompt: list[int]) -> Reply:
        choice: Reply = {"index": 0, "prompt_logprobs": None}
        entries: list[tuple[int, float | None, dict[int, float]]] = []
        if body.get("echo"):
            entries = [(prompt[0], None, {}), *self._along(prompt)]
        if "prompt_logprobs" in body:
            choice["prompt_logprobs"] = [
                None,
                *(
                    {str(i): {"logprob": v, "decoded_token": "?"} for i, v in {**top, t: x}.items()}
                    for t, x, top in self._along(prompt)
                ),
            ]
        written, choice["finish_reason"], choice["text"] = self._write(body, prompt)
        entries += written
        name = (
            (lambda t: f"token_id:{t}")
            if body.get("return_tokens_as_token_ids")
            else (lambda t: str(self.tokenizer.decode([t])))
        )
        choice["logprobs"] = {
            "tokens": [name(token) for token, _, _ in entries],
            "token_logprobs": [value for _, value, _ in entries],
            "top_logprobs": [{name(t): v for t, v in top.items()} or None for _, _, top in entries],
        }
        return {
            "id": "cmpl-1",
            "model": body["model"],
            "choices": [choice],
            "usage": {"prompt_tokens": len(prompt), "completion_tokens": len(written)},
        }

    def _along(self, prompt: list[int]) -> list[tuple[int, float, dict[int, float]]]:
        rows = self.scores(prompt)
        best = rows.argmax(1)
        return [
            (t, float(row[t]), {int(b): float(row[b])})
            for t, row, b in zip(prompt[1:], rows, best, strict=False)
        ]

    def _write(self, body: Reply, prompt: list[int]) -> tuple[list[Any], str, str]:
        rng = np.random.default_rng(body.get("seed"))
        temperature = body.get("temperature", 1.0)
        end = self.tokenizer.eos_token_id
        out: list[Any] = []
        ids = list(prompt)
        for _ in range(body["max_tokens"]):
            row = self.scores(ids)[-1]
            if body.get("ignore_eos"):
                row[end] = -np.inf
            chosen = row.copy()
            if "allowed_token_ids" in body:
                chosen[:] = -np.inf
                chosen[body["allowed_token_ids"]] = 0.0
            if temperature:
                noise = rng.gumbel(size=len(row))
                chosen = chosen / temperature + noise
            token = int(chosen.argmax())
            if self.processed and temperature:
                row = row / temperature
                row -= np.log(np.exp(row).sum())
            wanted = {int(row.argmax()), token, *body.get("logprob_token_ids", [])}
            out.append((token, float(row[token]), {t: float(row[t]) for t in wanted}))
            if token == end:
                return out, "stop", self.tokenizer.decode(ids[len(prompt) :])
            ids.append(token)
            text = self.tokenizer.decode(ids[len(prompt) :])
            if any(stop in text for stop in body.get("stop", [])):
                return out, "stop", text
        return out, "length", self.tokenizer.decode(ids[len(prompt) :])


class Handler(BaseHTTPRequestHandler):
    """Hands requests to the stub."""

    protocol_version = "HTTP/1.1"
    # Else the body of a reply waits 40 ms for the receipt of its head.
    disable_nagle_algorithm = True
    stub: Stub

    def do_GET(self) -> None:
        """Answer."""
        self._answer({})

    def do_POST(self) -> None:
        """Answer."""
        self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _answer(self, body: Reply) -> None:
        stub = self.stub
        with stub.lock:
            stub.asked.append((self.path, body))
            stub.headers.append({name.lower(): value for name, value in self.headers.items()})
        status, reply = stub.reply(self.path, body)
        if status == 200 and stub.spoil is not None:
            reply = stub.spoil(reply)
        content = json.dumps(reply).encode()
        if stub.raw is None or not stub.raw(self, content):
            self.send(content, status)

    def send(self, content: bytes, status: int = 200, **headers: str) -> None:
        """Send a reply."""
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is no news."""


@contextmanager
def serving(folder: Path, **how: Any) -> Iterator[Stub]:
    """Run a server as long as the block runs."""
    stub = Stub(folder, **how)
    server = _Server(("127.0.0.1", 0), type("_Handler", (Handler,), {"stub": stub}))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    stub.address = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
