"""API tokens: made once, shown once, kept as a keyed hash, revocable at any moment."""

from __future__ import annotations

import secrets
import string
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.contrib.auth.models import AbstractBaseUser
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.crypto import salted_hmac

from boards.models import Membership, Token
from kernel.access import Principal, Role
from kernel.errors import Invalid, NotFound
from kernel.tx import transition

PREFIX = "holdfast_"
_ALPHABET = string.ascii_letters + string.digits
_SECRET_CHARS = 32  # 190 bits
_CRC_CHARS = 6
_LONGEST = 200
#: ``last_used_at`` is written at most this often, so that reading costs no write.
_USED_EVERY = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Issued:
    """A new token and its plaintext, which exists only here."""

    token: Token
    plaintext: str


def issue(
    name: str,
    *,
    owner: AbstractBaseUser | None = None,
    roles: Mapping[UUID, Role] | None = None,
    everywhere: Role | None = None,
    expires_at: datetime | None = None,
    carries_secrets: bool = False,
) -> Issued:
    """Return a new token with its roles. The plaintext can't be had again.

    With ``carries_secrets`` a worker elsewhere is told the secrets of the boards it works on.
    """
    secret = "".join(secrets.choice(_ALPHABET) for _ in range(_SECRET_CHARS))
    plaintext = f"{PREFIX}{secret}{_crc(secret)}"
    token = _keep(name, plaintext, owner, roles or {}, everywhere, expires_at, carries_secrets)
    return Issued(token, plaintext)


def bootstrap(plaintext: str) -> Token | None:
    """Return an operator's token with this given value on all boards; None if it exists.

    Raises Invalid when the value is shorter than 32 characters or can't be sent.
    """
    sendable = plaintext.isascii() and plaintext.isprintable() and " " not in plaintext
    if not sendable or not 32 <= len(plaintext) <= _LONGEST:
        raise Invalid.field(
            "BOOTSTRAP_TOKEN", f"must be 32 to {_LONGEST} printable ASCII characters, no spaces."
        )
    if Token.objects.filter(digest=digest_of(plaintext)).exists():
        return None
    return _keep("bootstrap", plaintext, None, {}, Role.OPERATOR, None)


def revoke(token_id: UUID) -> Token:
    """Return the token, worthless from this commit on. Raises NotFound."""
    with transition():
        Token.objects.filter(pk=token_id, revoked_at=None).update(revoked_at=timezone.now())
        token = Token.objects.filter(pk=token_id).first()
    if token is None:
        raise NotFound("There is no such token.")
    return token


def principal_of(plaintext: str) -> Principal | None:
    """Return who the token stands for, in one statement, or None if it opens nothing."""
    if not 16 <= len(plaintext) <= _LONGEST or not plaintext.isascii():
        return None
    now = timezone.now()
    rows = list(
        live(now)
        .filter(digest=digest_of(plaintext))
        .values_list(
            "pk", "name", "everywhere", "last_used_at", "memberships__board", "memberships__role"
        )
    )
    if not rows:
        return None
    pk, name, everywhere, used_at = rows[0][:4]
    if used_at is None or now - used_at > _USED_EVERY:
        Token.objects.filter(pk=pk).update(last_used_at=now)
    return Principal(
        kind="token",
        id=str(pk),
        name=name,
        boards={board: Role(role) for *_, board, role in rows if board is not None},
        everywhere=Role(everywhere) if everywhere is not None else None,
    )


def live(now: datetime) -> QuerySet[Token]:
    """Return the tokens that open something: not revoked, not expired, their owner active."""
    return (
        Token.objects.filter(revoked_at=None)
        .filter(Q(expires_at=None) | Q(expires_at__gt=now))
        .filter(Q(owner=None) | Q(owner__is_active=True))
    )


def digest_of(plaintext: str) -> str:
    """Return the keyed hash under which a token is kept."""
    return salted_hmac("boards.tokens", plaintext, algorithm="sha256").hexdigest()


def _keep(
    name: str,
    plaintext: str,
    owner: AbstractBaseUser | None,
    roles: Mapping[UUID, Role],
    everywhere: Role | None,
    expires_at: datetime | None,
    carries_secrets: bool = False,
) -> Token:
    with transition():
        token = Token.objects.create(
            name=name,
            owner_id=owner.pk if owner is not None else None,
            digest=digest_of(plaintext),
            hint=plaintext[-4:],
            everywhere=everywhere,
            expires_at=expires_at,
            carries_secrets=carries_secrets,
        )
        Membership.objects.bulk_create(
            Membership(board_id=board_id, token=token, role=role)
            for board_id, role in roles.items()
        )
    return token


def _crc(secret: str) -> str:
    """Return a checksum in base 62, so that scanners can tell a token from a random word."""
    number, digits = zlib.crc32(secret.encode()), ""
    for _ in range(_CRC_CHARS):
        number, rest = divmod(number, len(_ALPHABET))
        digits = _ALPHABET[rest] + digits
    return digits
