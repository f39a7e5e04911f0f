"""The base of every JSON endpoint: who asks, what they sent, and answers kept for repeats."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn, TypeVar
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet
from django.utils.crypto import salted_hmac
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiParameter, inline_serializer
from rest_framework import serializers
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.encoders import JSONEncoder
from rest_framework.views import APIView

from events import receipts
from events.receipts import Answer
from kernel.access import Principal, hidden
from kernel.digests import canonical, sha256
from kernel.errors import Invalid, Malformed, Stale
from kernel.limits import whole_number
from kernel.tx import retrying

M = TypeVar("M", bound=Model)

DEFAULT_LIMIT = 50
MAX_LIMIT = 200
MAX_CURSOR_CHARS = 400
#: An entity tag as RFC 9110 has it, or a bare version.
_TAG = re.compile(r'(?:W/)?"([^"]*)"|(\d+)')


class SignedIn(BasePermission):
    """Nobody anonymous reads or writes; an attempt's own token does where a view says so."""

    def has_permission(self, request: Request, view: Any) -> bool:
        principal = request.user
        if not isinstance(principal, Principal):
            return False
        return principal.scope is None or bool(getattr(view, "for_attempts", False))


class Body(serializers.Serializer[Any]):
    """A plain contract for what may be sent: unknown fields are refused by name."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping):
            unknown = [str(k) for k in data if k not in self.fields]
            if unknown:
                raise serializers.ValidationError(
                    {name: ["is not a field of this request; remove it."] for name in unknown}
                )
            if self.parent is not None and self.root.partial:
                # A partial edit leaves out fields of the thing edited, not of what it lists.
                self._require(data)
        return super().to_internal_value(data)

    def _require(self, data: Mapping[str, Any]) -> None:
        missing = [n for n, field in self.fields.items() if field.required and n not in data]
        if missing:
            raise serializers.ValidationError({n: ["This field is required."] for n in missing})


class Text(serializers.CharField):
    """Optional text, kept as sent; null counts as empty."""

    def __init__(self, max_length: int, *, required: bool = False, **options: Any) -> None:
        options.setdefault("allow_blank", not required)
        options.setdefault("trim_whitespace", False)
        options.update(max_length=max_length, required=required, allow_null=not required)
        super().__init__(**options)

    def validate_empty_values(self, data: Any) -> tuple[bool, Any]:
        if data is None and self.allow_null:
            return True, ""
        return super().validate_empty_values(data)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return str(super().to_internal_value(data))


class Line(Text):
    """One line of text, white space around it taken off."""

    def __init__(self, max_length: int = 300, **options: Any) -> None:
        super().__init__(max_length, trim_whitespace=True, **options)


class Choice(serializers.ChoiceField):
    """One of a few words, which a refusal names."""

    default_error_messages = {"invalid_choice": '"{input}" is not one of {choices}.'}

    def fail(self, key: str, **said: Any) -> NoReturn:
        choices = ", ".join(map(str, self.choices))
        super().fail(key, **{**said, "input": str(said.get("input"))[:100], "choices": choices})


class Shaped(serializers.RegexField):
    """Text of one shape, kept as sent: nothing is trimmed to make it fit."""

    def __init__(self, regex: str, must: str, **options: Any) -> None:
        super().__init__(
            regex, error_messages={"invalid": must, "blank": must}, trim_whitespace=False, **options
        )

    def to_internal_value(self, data: Any) -> str:
        # A final line feed passes a regular expression that ends in $.
        if not isinstance(data, str) or data.endswith("\n"):
            self.fail("invalid")
        return str(super().to_internal_value(data))


class Number(serializers.FloatField):
    """A finite number, not text that spells one: "nan" passes every bound."""

    def to_internal_value(self, data: Any) -> float:
        if isinstance(data, bool) or not isinstance(data, int | float):
            self.fail("invalid")
        return float(super().to_internal_value(data))


class Words(serializers.ListField):
    """A short list of short strings, such as labels or capabilities."""

    def __init__(self, max_items: int = 50, max_chars: int = 100, **options: Any) -> None:
        options.setdefault("required", False)
        options.setdefault("child", Line(max_chars, required=True))
        super().__init__(max_length=max_items, **options)


class JSONValue(serializers.JSONField):
    """Any JSON value up to ``max_bytes``; larger ones belong in an artifact."""

    def __init__(self, max_bytes: int = 256 * 1024, **options: Any) -> None:
        self.max_bytes = max_bytes
        options.setdefault("required", False)
        options.setdefault("allow_null", True)
        super().__init__(**options)

    def to_internal_value(self, data: Any) -> Any:
        value = super().to_internal_value(data)
        if len(canonical(value)) > self.max_bytes:
            raise serializers.ValidationError(
                f"is larger than {self.max_bytes} bytes; upload it as an artifact."
            )
        return value


class JSONObject(JSONValue):
    """A JSON object up to ``max_bytes``; null counts as an empty one."""

    def validate_empty_values(self, data: Any) -> tuple[bool, Any]:
        return (True, {}) if data is None else super().validate_empty_values(data)

    def to_internal_value(self, data: Any) -> Any:
        value = super().to_internal_value(data)
        if not isinstance(value, dict):
            raise serializers.ValidationError("must be a JSON object.")
        return value


class Schema(AutoSchema):
    """Describes what every endpoint has in common, so that no view repeats it."""

    def get_operation_id(self) -> str:
        """Return the name a client may give the call; a view that serves several says which."""
        return getattr(self.view, "operation_id", "") or str(super().get_operation_id())

    def get_override_parameters(self) -> list[Any]:
        shared = list(getattr(self.view, "shared_parameters", ()))
        if self.method == "POST" and isinstance(self.view, Endpoint):
            shared.append(IDEMPOTENCY_KEY)
        return [*super().get_override_parameters(), *shared]


IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    str,
    OpenApiParameter.HEADER,
    description="Repeating a request with its key gives the first answer again.",
)


def listed(out: type[serializers.Serializer[Any]]) -> Any:
    """Return the schema of a list of ``out`` as ``page`` gives it."""
    return inline_serializer(
        f"{out.__name__.removesuffix('Out')}List",
        {"results": out(many=True), "next": serializers.CharField(allow_null=True)},
    )


class Endpoint(APIView):
    """Base of the API's views: edges that parse, call one transition and answer.

    A handler returns ``Answer``; a POST that carries an Idempotency-Key is answered once per
    key, see ``events.receipts``. ``fields`` (from a Body) is what was sent, validated.
    """

    permission_classes = (SignedIn,)
    schema = Schema()
    #: True for what a principal that is but one attempt may call.
    for_attempts = False

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        # No store holds NUL in a text, and PostgreSQL won't even compare with one.
        if any("\x00" in name for name in kwargs.values() if isinstance(name, str)):
            raise hidden("thing here")

    @property
    def principal(self) -> Principal:
        principal = self.request.user
        assert isinstance(principal, Principal)
        return principal

    def fields(self, contract: type[Body], **options: Any) -> dict[str, Any]:
        """Return the validated body. Raises ValidationError naming the fields."""
        body = contract(data=self.request.data, **options)
        body.is_valid(raise_exception=True)
        return dict(body.validated_data)

    def query(self, contract: type[serializers.Serializer[Any]]) -> dict[str, Any]:
        """Return the validated query parameters. Raises ValidationError naming them."""
        params = contract(data=dict(self.request.query_params.items()))
        params.is_valid(raise_exception=True)
        return dict(params.validated_data)

    def answer(
        self,
        effect: Callable[[], Answer],
        *,
        current: Callable[[], Any] | None = None,
        prepare: Callable[[], None] | None = None,
    ) -> Response:
        """Return ``effect()`` as a response, once per idempotency key for a POST.

        ``current`` gives what a Stale refusal shows the caller, read after the roll-back.
        ``prepare`` does what is too slow for the effect's transaction; it may run again for
        a repeated request whose first one didn't get to its end.
        """
        key = self.request.headers.get("Idempotency-Key")
        if prepare is not None and not (key and receipts.known(self.principal.key, key)):
            prepare()
        try:
            answer = self._once(effect)
        except Stale as stale:
            if current is not None:
                stale.extra["current"] = current()
            raise
        return self.respond(self.restore(answer) if answer.replayed else answer)

    def _once(self, effect: Callable[[], Answer]) -> Answer:
        key = self.request.headers.get("Idempotency-Key")
        if key is None or self.request.method != "POST":
            return retrying(effect)
        receipts.check_key(key)
        return retrying(
            lambda: receipts.once(
                self.principal.key, key, self.fingerprint(), effect, redact=self.redact
            )
        )

    def respond(self, answer: Answer) -> Response:
        """Return the answer as a response, marked when it is a repeated one."""
        response = Response(answer.body, status=answer.status, headers=dict(answer.headers))
        if answer.replayed:
            response["Idempotent-Replay"] = "true"
        if isinstance(answer.body, Mapping) and isinstance(answer.body.get("version"), int):
            response["ETag"] = etag(answer.body["version"])
        return response

    def fingerprint(self) -> str:
        """Return what makes a repeated request the same request.

        Keyed: it is kept, and a secret in the body must not be guessed from it.
        """
        digest = sha256(
            str(self.request.method).encode(),
            self.request.get_full_path().encode(),
            self.content(),
        )
        return salted_hmac("events.endpoint", digest, algorithm="sha256").hexdigest()

    def content(self) -> bytes:
        """Return what tells the request's body from others."""
        return canonical(self.request.data)

    def redact(self, body: Any) -> Any:
        """Return the body as it may be kept: plain JSON, secrets taken out."""
        return json.loads(json.dumps(body, cls=JSONEncoder))

    def restore(self, answer: Answer) -> Answer:
        """Return a kept answer with what ``redact`` took out put back."""
        return answer

    def expected_version(self) -> int | None:
        """Return the version named by If-Match, if any. Raises Malformed.

        Versions only grow, so of several tags the newest alone can be current. A tag that is
        none of ours is version 0, which nothing has.
        """
        header = self.request.headers.get("If-Match")
        if header is None or header.strip() == "*":
            return None
        tags = [_TAG.fullmatch(tag.strip()) for tag in header.split(",")]
        if not all(tags):
            raise Malformed.field("If-Match", 'must be the ETag you were given, such as "7".')
        return max(whole_number(tag[1] or tag[2] or "", 18) or 0 for tag in tags if tag)

    def handle_exception(self, exc: Exception) -> Response:
        response = super().handle_exception(exc)
        if isinstance(exc, Stale) and isinstance(exc.extra.get("current"), Mapping):
            response["ETag"] = etag(exc.extra["current"]["version"])
        return response


def etag(version: int) -> str:
    """Return the entity tag of a version."""
    return f'"{version}"'


def page(
    request: Request,
    rows: QuerySet[M],
    represent: Callable[[list[M]], Iterable[Any]],
    *,
    order: str,
    unique: str = "pk",
) -> Answer:
    """Return one page of ``rows`` as the contract's list, newest or first in order.

    The cursor holds the last row's sort value and key, so pages neither repeat nor skip when
    rows come and go meanwhile. Raises Invalid for a cursor or limit that can't be.
    """
    limit = limit_of(request)
    descending = order.startswith("-")
    name = order.lstrip("-")
    cursor = request.query_params.get("cursor")
    op = "lt" if descending else "gt"
    if cursor:
        try:
            rows = rows.filter(**{f"{name}__{op}": _decode(cursor)})
        except (ValueError, TypeError, ValidationError):
            raise Invalid.field("cursor", "is not one that this list gave out.") from None
    found = list(rows.order_by(order)[: limit + 1])
    more = len(found) > limit
    found = found[:limit]
    following = _encode(getattr(found[-1], name)) if more else None
    return Answer(200, {"results": list(represent(found)), "next": following})


def limit_of(request: Request) -> int:
    """Return the page size asked for. Raises Invalid."""
    raw = request.query_params.get("limit")
    if raw is None:
        return DEFAULT_LIMIT
    limit = whole_number(raw)
    if not limit:
        raise Invalid.field("limit", f"must be a whole number from 1 to {MAX_LIMIT}.")
    return min(limit, MAX_LIMIT)


def _encode(value: Any) -> str:
    text = json.dumps(str(value) if isinstance(value, UUID) else value, default=str)
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _decode(cursor: str) -> Any:
    """Return the value in the cursor. Raises ValueError for one that can't be."""
    if len(cursor) > MAX_CURSOR_CHARS:
        raise ValueError("too long")
    padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
    value = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise ValueError("neither text nor a number")
    if isinstance(value, int) and abs(value) >= 2**63:
        raise ValueError("past 64 bits")
    if isinstance(value, str) and not value.isprintable():
        raise ValueError("not printable")
    return value
