"""One HTTP request to an address that a user chose, without becoming their hand in our network.

The name is looked up once; every address it has must be public, and the connection goes to one
that was checked, so that a second look-up can't point elsewhere. Nothing is followed, little is
read, and all of it together ends within TOTAL_SECONDS.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urljoin, urlsplit

from django.conf import settings

from kernel.errors import Invalid

CONNECT_SECONDS = 5.0
TOTAL_SECONDS = 15.0
MAX_ANSWER_BYTES = 4096
#: What is read of a page that is looked at for a text.
MAX_PAGE_BYTES = 1024 * 1024
REDIRECTS_FOLLOWED = 5
MAX_URL_CHARS = 1000
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_NAT64_LOCAL = ipaddress.ip_network("64:ff9b:1::/48")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: a status, or the reason why there is none."""

    code: int | None
    text: str
    error: str
    milliseconds: int


class Refused(Exception):
    """The address is none that we send to."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request, and its bounds."""

    method: str
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = TOTAL_SECONDS
    most_bytes: int = MAX_ANSWER_BYTES
    private: bool = False


def check_url(url: str, *, private: bool | None = None) -> SplitResult:
    """Return the parts of an address that may be sent to. Raises Invalid naming ``url``.

    Where a name leads is looked at when something is sent. ``private`` tells whether it may be
    in a private network; unless told, that is as for webhooks.
    """
    private = settings.ALLOW_PRIVATE_WEBHOOKS if private is None else private
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise Invalid.field("url", "is no address; write https://host/path.") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Invalid.field("url", "must begin with https:// or http:// and name a host.")
    if parts.username is not None or parts.password is not None:
        raise Invalid.field("url", "must hold no user name or password; messages are signed.")
    if port == 0 or len(url) > MAX_URL_CHARS or not url.isascii() or not url.isprintable():
        raise Invalid.field("url", f"must be plain ASCII of at most {MAX_URL_CHARS} characters.")
    if " " in url or "\\" in url:
        raise Invalid.field("url", "must hold neither blanks nor backslashes.")
    with contextlib.suppress(ValueError):
        if not _is_public(ipaddress.ip_address(parts.hostname)) and not private:
            _refuse_private()
    if parts.hostname.rstrip(".").lower().endswith("localhost") and not private:
        _refuse_private()
    return parts


def _refuse_private() -> None:
    raise Invalid.field("url", "leads into a private network, which is not allowed here.")


def post(url: str, body: bytes, headers: dict[str, str]) -> Answer:
    """Send the body and return what came back. Never raises."""
    private = settings.ALLOW_PRIVATE_WEBHOOKS
    asked = _Asked("POST", body, headers, TOTAL_SECONDS, private=private)
    return _answered(asked.seconds, lambda: _exchange(check_url(url), asked)[:2])


def get(url: str, *, seconds: float, private: bool) -> Answer:
    """Return what stands at the address, its first MAX_PAGE_BYTES. Never raises.

    Redirects are followed on the same host alone; one that leads elsewhere is the answer.
    """
    headers = {"User-Agent": "Holdfast", "Accept": "*/*", "Connection": "close"}
    ends = time.monotonic() + seconds

    def follow() -> tuple[int, str]:
        here = url
        for _ in range(REDIRECTS_FOLLOWED + 1):
            parts = check_url(here, private=private)
            left = max(0.1, ends - time.monotonic())
            asked = _Asked("GET", None, headers, left, MAX_PAGE_BYTES, private)
            code, text, location = _exchange(parts, asked)
            there = urljoin(here, location)
            if code not in (301, 302, 303, 307, 308) or not location:
                return code, text
            if (urlsplit(there).hostname or "") != parts.hostname:
                return code, text
            here = there
        raise Refused(f"It redirects more than {REDIRECTS_FOLLOWED} times.")

    return _answered(seconds, follow)


def _answered(seconds: float, exchange: Callable[[], tuple[int, str]]) -> Answer:
    began = time.monotonic()

    def answer(code: int | None, text: str = "", error: str = "") -> Answer:
        return Answer(code, text, error, int(1000 * (time.monotonic() - began)))

    late = f"No answer within {seconds:.0f} seconds."
    try:
        return answer(*exchange())
    except Invalid as refusal:
        return answer(None, error=refusal.detail)
    except Refused as refusal:
        return answer(None, error=str(refusal))
    except TimeoutError:
        return answer(None, error=late)
    except (OSError, ssl.SSLError) as error:
        if time.monotonic() - began >= seconds:
            return answer(None, error=late)
        return answer(None, error=f"{type(error).__name__}: {error}"[:300])
    except (http.client.HTTPException, ValueError) as error:
        return answer(None, error=f"The answer was no HTTP: {type(error).__name__}."[:300])


def _exchange(parts: SplitResult, asked: _Asked) -> tuple[int, str, str]:
    """Return the status, the beginning of the body, and where a redirect leads."""
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    plain = _connect(host, port, asked)
    # Each read has a time-out of its own; a receiver that drips must end as well.
    killer = threading.Timer(asked.seconds, _cut, [plain])
    killer.daemon = True
    killer.start()
    try:
        wire: socket.socket = plain
        if parts.scheme == "https":
            wire = ssl.create_default_context().wrap_socket(plain, server_hostname=host)
        connection = http.client.HTTPConnection(host, port, timeout=asked.seconds)
        connection.sock = wire
        try:
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            shown = f"[{host}]" if ":" in host else host
            usual = 443 if parts.scheme == "https" else 80
            named = shown if port == usual else f"{shown}:{port}"
            headers = {**asked.headers, "Host": named}
            connection.request(asked.method, path, asked.body, headers)
            response = connection.getresponse()
            text = response.read(asked.most_bytes).decode("utf-8", "replace")
            return response.status, text, response.headers.get("Location") or ""
        finally:
            connection.close()
    finally:
        killer.cancel()
        plain.close()


def _cut(wire: socket.socket) -> None:
    with contextlib.suppress(OSError):
        wire.shutdown(socket.SHUT_RDWR)


def addresses(host: str, port: int, *, private: bool | None = None) -> list[tuple[int, str]]:
    """Return where the host may be reached, family and address. Raises Refused, OSError."""
    private = settings.ALLOW_PRIVATE_WEBHOOKS if private is None else private
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:
        raise Refused(f"{host} is no host name.") from None
    except socket.gaierror:
        raise Refused(f"The name {host} is not known.") from None
    usable = []
    for family, _, _, _, where in found:
        address = str(where[0])
        if not private and not _is_public(ipaddress.ip_address(address.partition("%")[0])):
            # One private address among public ones is no accident.
            raise Refused(f"{host} leads into a private network, which is not allowed here.")
        usable.append((int(family), address))
    return usable


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """True if the address, and the one it may hide, is one of the open Internet."""
    if isinstance(address, ipaddress.IPv6Address):
        hidden = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            hidden = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        if hidden is not None:
            return _is_public(hidden)
        if address.teredo is not None or address in _NAT64_LOCAL or address.is_site_local:
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _connect(host: str, port: int, asked: _Asked) -> socket.socket:
    """Return a connection to the first of the host's checked addresses that takes one."""
    trouble: OSError | None = None
    for family, address in addresses(host, port, private=asked.private)[:3]:
        wire = socket.socket(family, socket.SOCK_STREAM)
        wire.settimeout(min(CONNECT_SECONDS, asked.seconds))
        try:
            wire.connect((address, port))
        except OSError as error:
            wire.close()
            trouble = error
        else:
            wire.settimeout(asked.seconds)
            return wire
    raise trouble or Refused(f"{host} has no address.")
