"""What a server is asked and what it answered, noted in the server's own process.

vLLM takes it by ``--middleware request_log.RequestLog``. Each completion that was answered with
success is a line of JSON, the request, in the file that ``REQUEST_LOG`` names.
"""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

VARIABLE: Final = "REQUEST_LOG"
PATH: Final = "/v1/completions"
OK: Final = 200
Message = dict[str, Any]


class RequestLog:
    """An ASGI application around another one.

    Args:
        app: the other one.
    """

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self.app = app
        self.file = Path(os.environ[VARIABLE])

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Pass a request on; note it when the last byte of its answer has been sent."""
        if scope["type"] != "http" or scope["path"] != PATH:
            await self.app(scope, receive, send)
            return
        body = bytearray()
        status = 0

        async def received() -> Message:
            message = await receive()
            body.extend(message.get("body", b""))
            return message

        async def sent(message: Message) -> None:
            nonlocal status
            await send(message)
            status = message.get("status", status)
            last = message["type"] == "http.response.body" and not message.get("more_body")
            if last and status == OK:
                with self.file.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(json.loads(body)) + "\n")

        await self.app(scope, received, sent)
