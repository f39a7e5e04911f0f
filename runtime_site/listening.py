"""Opens the port. Who holds the socket has the port: there is no moment to lose it in."""

from __future__ import annotations

import errno
import socket
import time

from django.core.management.base import CommandError

BACKLOG = 1024
#: A server that was killed a moment ago may still be going.
RETRY_SECONDS = 1.5


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket. Raises CommandError in one sentence when there is none to have."""
    ends = time.monotonic() + RETRY_SECONDS
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise CommandError(f"HOST={host} can't be resolved: {error.strerror}.") from None
    family, _, _, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    while True:
        opened = socket.socket(family, socket.SOCK_STREAM)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            opened.bind(address)
            opened.listen(BACKLOG)
            return opened
        except OSError as error:
            opened.close()
            if error.errno == errno.EADDRINUSE and time.monotonic() < ends:
                time.sleep(0.1)
                continue
            raise CommandError(_sentence(host, port, error)) from None


def _sentence(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} on {host} is taken by another program; set PORT to a free one."
    if error.errno == errno.EACCES:
        return f"This user may not open port {port}; set PORT to one above 1023."
    if error.errno == errno.EADDRNOTAVAIL:
        return f"HOST={host} is no address of this machine; set HOST=127.0.0.1 or HOST=0.0.0.0."
    return f"Port {port} on {host} can't be opened: {error.strerror}."
