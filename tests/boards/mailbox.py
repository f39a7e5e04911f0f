"""A mail server that keeps what it gets, and can be told to refuse."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage


@dataclass
class Mailbox:
    """The letters that came, and what the next command RCPT is answered."""

    port: int = 0
    letters: list[EmailMessage] = field(default_factory=list)
    rcpt: str = "250 ok"


@contextmanager
def mailbox() -> Iterator[Mailbox]:
    """A server that speaks enough SMTP (RFC 5321) for the standard library's client."""
    box = Mailbox()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self._say("220 mailbox")
            while line := self.rfile.readline().decode().strip():
                verb = line.split()[0].upper()
                if verb in ("EHLO", "HELO", "MAIL", "RSET", "NOOP"):
                    self._say("250 ok")
                elif verb == "RCPT":
                    self._say(box.rcpt)
                elif verb == "DATA":
                    self._say("354 go on")
                    raw = b""
                    while (part := self.rfile.readline()) not in (b".\r\n", b""):
                        raw += part.removeprefix(b".") if part.startswith(b"..") else part
                    letter = message_from_bytes(raw, policy=policy.default)
                    assert isinstance(letter, EmailMessage)
                    box.letters.append(letter)
                    self._say("250 kept")
                elif verb == "QUIT":
                    self._say("221 bye")
                    return
                else:
                    self._say("502 no")

        def _say(self, line: str) -> None:
            self.wfile.write(f"{line}\r\n".encode())

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Handler)
    box.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield box
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
