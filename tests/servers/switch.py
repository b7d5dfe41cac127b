"""A load balancer as a redeployment meets it: from one moment on, another server answers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Switch:
    """Passes connections on to a port that can be changed.

    Args:
        port: where connections go.

    Attributes:
        port: its own.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def to(self, port: int) -> None:
        """Send connections there from now on; those that are open are cut."""
        with self._lock:
            self._to = port
            self._cut()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()
        with self._lock:
            self._cut()

    def _cut(self) -> None:
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """Pass on both ways, to the end of both sides."""
        with client, self._connected(client) as server:
            back = threading.Thread(target=_pump, args=(server, client), daemon=True)
            back.start()
            _pump(client, server)
            back.join()
            with self._lock:
                self._open -= {client, server}

    def _connected(self, client: socket.socket) -> socket.socket:
        with self._lock:
            server = socket.create_connection(("127.0.0.1", self._to))
            self._open |= {client, server}
        return server


def _pump(source: socket.socket, target: socket.socket) -> None:
    """Pass on what one side sends, to its end."""
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@contextmanager
def switch(port: int) -> Iterator[Switch]:
    """Give a switch that leads to a port."""
    made = Switch(port)
    try:
        yield made
    finally:
        made.close()
