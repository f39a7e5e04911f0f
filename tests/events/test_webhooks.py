"""What other programs are told, in order, at least once, and only where they may be told."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import time_machine
from django.db import transaction
from django.utils import timezone

from events import log, outgoing, webhooks
from events.models import Delivery, Webhook
from kernel.errors import Invalid, TransitionRefused
from tests import serving
from tests.events.receiver import Receiver, receiving
from tests.serving import Site

BOARD = UUID("0198c000-0000-7000-8000-000000000001")


@pytest.fixture
def receiver(settings: Any) -> Iterator[Receiver]:
    settings.ALLOW_PRIVATE_WEBHOOKS = True
    with receiving() as found:
        yield found


@pytest.fixture
def hook(receiver: Receiver, db: None) -> Webhook:
    return webhooks.create(BOARD, "user:ann", url=receiver.url)


def happen(*kinds: str) -> None:
    with transaction.atomic():
        for kind in kinds:
            log.record(kind, board_id=BOARD, subject_id=uuid4(), actor="user:ann", card="B-1")


def rest(hook: Webhook) -> None:
    """Let the pause after a failure be over."""
    Webhook.objects.filter(pk=hook.pk).update(not_before=None)


def now_is(hook: Webhook) -> Webhook:
    return Webhook.objects.get(pk=hook.pk)


def test_events_come_in_order_signed_and_once(hook: Webhook, receiver: Receiver) -> None:
    happen("card.created", "card.moved", "card.blocked")
    assert webhooks.due(timezone.now()) == [hook.pk]
    assert webhooks.deliver(hook.pk) == 3
    assert webhooks.deliver(hook.pk) == 0
    assert webhooks.due(timezone.now()) == []
    assert receiver.ids == [f"evt_{BOARD.hex}_{n}" for n in (1, 2, 3)]
    headers, body = receiver.got[0]
    told = json.loads(body)
    assert told["type"] == "card.created"
    assert told["data"]["seq"] == 1
    key = base64.b64decode(webhooks.secret_of(hook).removeprefix("whsec_"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    mac = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{mac}"
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60


def test_what_happened_before_the_webhook_was_made_is_not_told(
    receiver: Receiver, db: None
) -> None:
    happen("card.created")
    hook = webhooks.create(BOARD, "user:ann", url=receiver.url)
    assert webhooks.deliver(hook.pk) == 0


@pytest.mark.parametrize(
    ("kinds", "told"),
    [
        ([], ["card.created", "card.moved", "attempt.failed"]),
        (["card.*"], ["card.created", "card.moved"]),
        (["attempt.failed", "log.appended"], ["log.appended", "attempt.failed"]),
    ],
)
def test_only_chosen_kinds_are_told_and_the_cursor_passes_the_rest(
    hook: Webhook, receiver: Receiver, kinds: list[str], told: list[str]
) -> None:
    webhooks.edit(hook.pk, {"kinds": kinds})
    happen("card.created", "log.appended", "card.moved", "attempt.failed", "step.started")
    webhooks.deliver(hook.pk)
    assert [json.loads(body)["type"] for _headers, body in receiver.got] == told
    assert now_is(hook).cursor >= 4


def test_a_failure_holds_up_what_follows_and_is_tried_again_under_its_id(
    hook: Webhook, receiver: Receiver
) -> None:
    receiver.answer = lambda count: 500 if count <= 2 else 200
    happen("card.created", "card.moved")
    for _ in range(2):
        assert webhooks.deliver(hook.pk) == 0
        assert webhooks.due(timezone.now()) == []  # it rests
        rest(hook)
    assert webhooks.deliver(hook.pk) == 2
    first, second = (f"evt_{BOARD.hex}_{n}" for n in (1, 2))
    assert receiver.ids == [first, first, first, second]
    delivery = Delivery.objects.get(seq=1)
    assert (delivery.state, delivery.tries, delivery.code) == ("delivered", 3, 200)
    assert now_is(hook).failures == 0


def test_what_the_receiver_refuses_is_given_up_after_three_tries_and_seen(
    hook: Webhook, receiver: Receiver
) -> None:
    receiver.answer = lambda count: 422 if count <= 3 else 200
    receiver.body = b"no such field"
    happen("card.created", "card.moved")
    for _ in range(4):
        webhooks.deliver(hook.pk)
        rest(hook)
    states = list(Delivery.objects.order_by("seq").values_list("state", "tries", "answer"))
    assert states == [("failed", 3, "no such field"), ("delivered", 1, "no such field")]


def test_a_receiver_that_is_gone_switches_the_webhook_off(
    hook: Webhook, receiver: Receiver
) -> None:
    receiver.answer = lambda _count: 410
    happen("card.created", "card.moved")
    webhooks.deliver(hook.pk)
    assert not now_is(hook).active
    assert "410" in now_is(hook).why_off
    webhooks.edit(hook.pk, {"active": True})
    receiver.answer = lambda _count: 204
    webhooks.deliver(hook.pk)
    assert receiver.ids[-1].endswith("_2")


def test_after_some_failures_the_circuit_is_open_and_rests_at_least_a_minute(
    hook: Webhook, receiver: Receiver
) -> None:
    receiver.answer = lambda _count: 503
    happen("card.created")
    for n in range(1, webhooks.OPEN_AFTER + 1):
        webhooks.deliver(hook.pk)
        pause = (now_is(hook).not_before or timezone.now()) - timezone.now()
        assert (pause > timedelta(seconds=40)) == (n >= webhooks.OPEN_AFTER), n
        rest(hook)


def test_after_a_day_an_event_is_given_up_and_after_a_week_the_webhook(
    hook: Webhook, receiver: Receiver
) -> None:
    receiver.answer = lambda _count: 500
    happen("card.created")
    with time_machine.travel(timezone.now(), tick=False) as clock:
        webhooks.deliver(hook.pk)
        clock.shift(timedelta(days=1, seconds=1))
        webhooks.deliver(hook.pk)
        assert Delivery.objects.get(seq=1).state == "failed"
        assert now_is(hook).active
        happen("card.moved")
        clock.shift(timedelta(days=7))
        webhooks.deliver(hook.pk)
        assert not now_is(hook).active


def test_two_deliverers_do_not_send_the_same_thing(hook: Webhook, receiver: Receiver) -> None:
    happen("card.created")
    Webhook.objects.filter(pk=hook.pk).update(
        taken_by=uuid4(), taken_until=timezone.now() + timedelta(seconds=5)
    )
    assert webhooks.deliver(hook.pk) == 0
    assert receiver.got == []


def test_who_lost_the_lease_while_sending_records_nothing(
    hook: Webhook, receiver: Receiver
) -> None:
    happen("card.created")
    send = outgoing.post

    def slow(*args: Any) -> outgoing.Answer:
        answer = send(*args)
        Webhook.objects.filter(pk=hook.pk).update(taken_by=uuid4())
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outgoing, "post", slow)
        assert webhooks.deliver(hook.pk) == 0
    assert now_is(hook).cursor == 0
    assert Delivery.objects.get().state == "waiting"


def test_a_test_and_a_repeat_go_besides_the_events(hook: Webhook, receiver: Receiver) -> None:
    receiver.answer = lambda count: 500 if count == 1 else 200
    happen("card.created")
    webhooks.deliver(hook.pk)
    test = webhooks.test(hook, "user:ann")
    rest(hook)
    webhooks.deliver(hook.pk)
    assert receiver.ids[1] == test.message_id
    done = Delivery.objects.get(seq=1)
    again = webhooks.repeat(done)
    with pytest.raises(TransitionRefused):
        webhooks.repeat(again)
    webhooks.deliver(hook.pk)
    assert receiver.ids[-1] == done.message_id
    assert json.loads(receiver.got[-1][1]) == json.loads(receiver.got[0][1])


def test_a_new_secret_signs_from_then_on(hook: Webhook) -> None:
    before = webhooks.secret_of(hook)
    assert webhooks.secret_of(webhooks.edit(hook.pk, {"new_secret": True})) != before


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.org/",
        "file:///etc/passwd",
        "http:///x",
        "https://user:pw@example.org/",
        "http://127.0.0.1/",
        "http://10.1.2.3/",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[2002:7f00:1::]/",
        "http://[fd00::1]/",
        "http://0.0.0.0/",
        "http://localhost/",
        "http://a.localhost./",
        "http://example.org:0/",
        "http://example.org:99999/",
        "http://exa mple.org/",
        "http://example.org\\@127.0.0.1/",
        "http://ex\xe4mple.org/",
        "http://" + "a" * 1000,
    ],
)
def test_addresses_that_are_none_or_lead_inside_are_refused(url: str, settings: Any) -> None:
    settings.ALLOW_PRIVATE_WEBHOOKS = False
    with pytest.raises(Invalid) as refused:
        outgoing.check_url(url)
    assert list(refused.value.errors) == ["url"]
    assert outgoing.post(url, b"", {}).code is None


@pytest.mark.parametrize("inside", ["127.0.0.1", "10.0.0.8", "::1", "100.64.0.1", "224.0.0.1"])
def test_a_name_that_leads_inside_is_not_connected_to(
    inside: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.ALLOW_PRIVATE_WEBHOOKS = False
    family = socket.AF_INET6 if ":" in inside else socket.AF_INET

    def looked_up(*args: Any, **kwargs: Any) -> Any:
        public = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.215.14", 80))
        return [public, (family, socket.SOCK_STREAM, 6, "", (inside, 80))]

    monkeypatch.setattr(socket, "getaddrinfo", looked_up)
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("connected"))
    answer = outgoing.post("http://rebind.example.org/", b"{}", {})
    assert answer.code is None
    assert "private network" in answer.error


def test_numbers_that_resolvers_read_as_addresses_lead_nowhere(settings: Any) -> None:
    settings.ALLOW_PRIVATE_WEBHOOKS = False
    for host in ("2130706433", "0x7f000001", "127.1", "017700000001"):
        assert outgoing.post(f"http://{host}/", b"{}", {}).code is None, host


def test_a_redirect_is_not_followed(hook: Webhook, receiver: Receiver) -> None:
    receiver.answer, receiver.where = (lambda _count: 302), f"{receiver.url}/elsewhere"
    happen("card.created")
    webhooks.deliver(hook.pk)
    assert len(receiver.got) == 1
    assert Delivery.objects.get().code == 302
    assert now_is(hook).failures == 1


def test_little_is_read_of_a_long_answer(hook: Webhook, receiver: Receiver) -> None:
    receiver.answer, receiver.body = (lambda _count: 200), b"x" * 5_000_000
    happen("card.created")
    webhooks.deliver(hook.pk)
    assert len(Delivery.objects.get().answer) == 500


def test_a_receiver_that_drips_is_cut_off(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.ALLOW_PRIVATE_WEBHOOKS = True
    monkeypatch.setattr(outgoing, "TOTAL_SECONDS", 0.6)
    with receiving() as slow:
        slow.pause = 30.0
        began = time.monotonic()
        answer = outgoing.post(slow.url, b"{}", {})
        assert time.monotonic() - began < slow.pause
    assert answer.code is None
    assert "No answer within" in answer.error


# ── killed, and two at once: real processes on a store of their own ─────────────────────────


_DELIVER = """
import sys, uuid, django
django.setup()
from events import webhooks
print("ready", flush=True)
while True:
    webhooks.deliver(uuid.UUID(sys.argv[1]))
"""
_MAKE = """
import sys, uuid, django
django.setup()
from django.db import transaction
from events import log, webhooks
board = uuid.UUID(sys.argv[1])
hook = webhooks.create(board, "user:ann", url=sys.argv[2])
for n in range(int(sys.argv[3])):
    with transaction.atomic():
        log.record("card.edited", board_id=board, subject_id=board, actor="user:ann", n=n)
print(hook.pk)
"""
_FREE = """
import django
django.setup()
from events.models import Webhook
Webhook.objects.update(taken_until=None, taken_by=None)
"""


@pytest.fixture(params=["sqlite", serving.POSTGRESQL])
def own_site(request: pytest.FixtureRequest) -> Iterator[Site]:
    with serving.new_site(request.param) as site:
        yield site


def in_order(ids: list[str]) -> bool:
    """Return whether first arrivals rise by one, whatever is repeated in between."""
    firsts = list(dict.fromkeys(ids))
    return [int(one.rpartition("_")[2]) for one in firsts] == list(range(1, len(firsts) + 1))


@pytest.mark.system
def test_killed_again_and_again_nothing_is_lost_or_out_of_order(own_site: Site) -> None:
    with receiving() as receiver:
        receiver.pause = 0.02
        board = uuid4()
        process = own_site.python(_MAKE, str(board), receiver.url, "40", ALLOW_PRIVATE_WEBHOOKS="1")
        hook = process.communicate(timeout=120)[0].strip()
        for stop in (7, 15, 23):
            deliverer = own_site.python(_DELIVER, hook, ALLOW_PRIVATE_WEBHOOKS="1")
            serving.until(lambda stop=stop: len(receiver.got) >= stop)
            deliverer.kill()
            deliverer.communicate()
            own_site.run(_FREE)  # the lease of the dead would run out by itself, later
        deliverer = own_site.python(_DELIVER, hook, ALLOW_PRIVATE_WEBHOOKS="1")
        serving.until(lambda: len(set(receiver.ids)) == 40)
        deliverer.kill()
        deliverer.communicate()
    assert in_order(receiver.ids)
    assert len(receiver.ids) <= 40 + 3  # each kill repeats one at the most, under its id


@pytest.mark.system
def test_three_deliverers_send_each_event_once_and_in_order(own_site: Site) -> None:
    with receiving() as receiver:
        board = uuid4()
        process = own_site.python(_MAKE, str(board), receiver.url, "60", ALLOW_PRIVATE_WEBHOOKS="1")
        hook = process.communicate(timeout=120)[0].strip()
        several = [own_site.python(_DELIVER, hook, ALLOW_PRIVATE_WEBHOOKS="1") for _ in range(3)]
        serving.until(lambda: len(set(receiver.ids)) == 60)
        time.sleep(0.5)
        for deliverer in several:
            deliverer.kill()
            deliverer.communicate()
    assert [int(one.rpartition("_")[2]) for one in receiver.ids] == list(range(1, 61))
