"""The one address that a command without a network may still call: this server's.

The keeper, inside, listens on that address of its own empty network and sends the listening
socket out. Here, outside, each call to it is carried on to the real address. Nothing else gets
through, and nothing has to be mounted for it.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading

MOST_CALLS = 64
CONNECT_SECONDS = 10.0
IDLE_SECONDS = 3600.0
CHUNK_BYTES = 64 * 1024
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Doorway:
    """Carries calls from inside to ``address`` until it is closed."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address
        self._ours, self.theirs = socket.socketpair()
        self._calls: set[socket.socket] = set()
        self._room = threading.BoundedSemaphore(MOST_CALLS)
        self._lock = threading.Lock()
        self._closed = False
        threading.Thread(target=self._serve, name="doorway", daemon=True).start()

    def close(self) -> None:
        """Cut every call and take no more."""
        with self._lock:
            self._closed = True
            calls = list(self._calls)
        with contextlib.suppress(OSError):
            self._ours.shutdown(socket.SHUT_RDWR)
        self.theirs.close()
        for call in calls:
            with contextlib.suppress(OSError):
                call.shutdown(socket.SHUT_RDWR)

    def _serve(self) -> None:
        listeners: list[socket.socket] = []
        try:
            _, descriptors, _, _ = socket.recv_fds(self._ours, 1, 4)
            listeners = [socket.socket(fileno=descriptor) for descriptor in descriptors]
            with selectors.DefaultSelector() as selector:
                selector.register(self._ours, selectors.EVENT_READ)
                for listener in listeners:
                    listener.setblocking(False)
                    selector.register(listener, selectors.EVENT_READ)
                while True:
                    for key, _ in selector.select():
                        if key.fileobj is self._ours:
                            return
                        assert isinstance(key.fileobj, socket.socket)
                        self._answer(key.fileobj)
        except OSError:
            return  # the command was over before it began
        finally:
            for listener in listeners:
                listener.close()
            self._ours.close()

    def _answer(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            call, _ = listener.accept()
            if not self._room.acquire(blocking=False):
                call.close()
                return
            threading.Thread(target=self._carry, args=(call,), daemon=True).start()

    def _carry(self, call: socket.socket) -> None:
        try:
            with call, socket.create_connection(self.address, CONNECT_SECONDS) as far:
                with self._lock:
                    if self._closed:
                        return
                    self._calls |= {call, far}
                back = threading.Thread(target=_pour, args=(far, call), daemon=True)
                back.start()
                _pour(call, far)
                back.join()
                with self._lock:
                    self._calls -= {call, far}
        except OSError:
            pass
        finally:
            self._room.release()


def _pour(source: socket.socket, target: socket.socket) -> None:
    """Hand on what comes until it ends, and its end."""
    with contextlib.suppress(OSError):
        source.settimeout(IDLE_SECONDS)
        while data := source.recv(CHUNK_BYTES):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
