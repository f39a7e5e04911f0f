from __future__ import annotations

import errno
import json
import sqlite3
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied
from django.db import DatabaseError, InterfaceError, OperationalError
from django.http import Http404
from django.test import RequestFactory
from psycopg import errors as pg
from rest_framework import exceptions, serializers

from kernel.errors import DomainError, LeaseLost, NotFound
from runtime_site import problems
from runtime_site.middleware import Problems


def caused(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


def sqlite(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorcode = code
    return error


def handled(error: Exception) -> tuple[int, Any, Any]:
    response = problems.handle(error, {})
    assert response is not None
    assert response.content_type == "application/problem+json"
    assert {"type", "title", "status", "detail", "code"} <= set(response.data)
    assert response.data["status"] == response.status_code
    return response.status_code, response.data, response.headers


def test_a_domain_error_keeps_its_code_and_what_it_adds() -> None:
    error = LeaseLost("The attempt is over.", extra={"attempt": "x"}, retry_after_seconds=3)
    status, body, headers = handled(error)
    assert (status, body["code"], body["attempt"]) == (409, "lease_lost", "x")
    assert body["detail"] == "The attempt is over."
    assert headers["Retry-After"] == "3"


def test_what_an_error_adds_can_not_pose_as_the_rest() -> None:
    _, body, _ = handled(DomainError("No.", extra={"status": 200, "code": "fine"}))
    assert (body["status"], body["code"]) == (409, "refused")


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Http404(), 404, "not_found"),
        (PermissionDenied("Not you."), 403, "forbidden"),
        (exceptions.NotAuthenticated(), 401, "not_authenticated"),
        (exceptions.MethodNotAllowed("PUT"), 405, "method_not_allowed"),
        (exceptions.UnsupportedMediaType("text/csv"), 415, "unsupported_media_type"),
        (exceptions.ParseError(), 400, "malformed"),
        (exceptions.Throttled(wait=4.2), 429, "too_many_requests"),
        (RuntimeError("a secret detail"), 500, "internal_error"),
    ],
)
def test_the_framework_s_errors_have_stable_codes(error: Exception, status: int, code: str) -> None:
    found, body, _ = handled(error)
    assert (found, body["code"]) == (status, code)
    assert "secret" not in json.dumps(body)


def test_the_fields_of_invalid_input_are_named_by_their_paths() -> None:
    class Step(serializers.Serializer[Any]):
        key = serializers.CharField()

    class Body(serializers.Serializer[Any]):
        name = serializers.CharField()
        steps = Step(many=True)

    body = Body(data={"steps": [{"key": "a"}, {}]})
    with pytest.raises(exceptions.ValidationError) as refused:
        body.is_valid(raise_exception=True)
    status, told, _ = handled(refused.value)
    assert status == 422
    assert told["errors"] == {
        "name": ["This field is required."],
        "steps[1].key": ["This field is required."],
    }


@pytest.mark.parametrize(
    "error",
    [
        caused(OperationalError(), sqlite(sqlite3.SQLITE_BUSY)),
        caused(OperationalError(), sqlite(sqlite3.SQLITE_BUSY | (2 << 8))),  # BUSY_SNAPSHOT
        caused(OperationalError(), pg.AdminShutdown()),
        caused(OperationalError(), pg.DeadlockDetected()),
        caused(OperationalError(), pg.LockNotAvailable()),
        caused(OperationalError(), pg.OperationalError("server closed the connection")),
        InterfaceError("connection already closed"),
    ],
)
def test_a_busy_store_asks_to_try_again(error: Exception) -> None:
    status, body, headers = handled(error)
    assert (status, body["code"]) == (503, "store_busy")
    assert int(headers["Retry-After"]) > 0


@pytest.mark.parametrize(
    "error",
    [
        caused(OperationalError("no such table: x"), sqlite(sqlite3.SQLITE_ERROR)),
        caused(OperationalError(), pg.UndefinedTable()),
        DatabaseError("?"),
    ],
)
def test_a_fault_of_ours_is_not_taken_for_a_busy_store(error: Exception) -> None:
    assert handled(error)[0] == 500


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        caused(OperationalError(), sqlite(sqlite3.SQLITE_FULL)),
        caused(OperationalError(), pg.DiskFull()),
    ],
)
def test_a_full_disk_is_said(error: Exception) -> None:
    status, body, _ = handled(error)
    assert (status, body["code"]) == (507, "storage_full")


def test_refusals_in_plain_views_become_answers_and_bugs_stay_bugs() -> None:
    middleware = Problems(lambda request: None)
    request = RequestFactory().get("/board")
    page = middleware.process_exception(request, NotFound("No such board."))
    assert page is not None
    assert page.status_code == 404
    assert page.headers["Content-Type"].startswith("text/html")
    assert middleware.process_exception(request, RuntimeError()) is None
