"""The inbox in a browser: what needs a person is answered where it stands."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import Open, new_card
from tests.browser.test_access import problems
from tests.events.receiver import Receiver, receiving
from tests.serving import Site, until
from tests.spilled import SPILLED

pytestmark = pytest.mark.browser

AXE = (Path(__file__).parent.parent / "vendor" / "axe.min.js").read_text()
SIZES = {"wide": {"width": 1440, "height": 900}, "narrow": {"width": 360, "height": 780}}

#: The page's own script, by the address it has there.
ASK = """import(document.querySelector("script[src$='js/bell.js']").src).then(bell => bell.ask())"""

_RAISE = """
import django
django.setup()
from boards.notices import raising
print(raising.tick())
"""
_DELIVER = """
import django
django.setup()
from django.utils import timezone
from events import webhooks
for pk in webhooks.due(timezone.now()):
    webhooks.deliver(pk)
"""
_MEMBER = """
import sys, django
django.setup()
from importlib import import_module
from django.conf import settings
from django.contrib.auth import get_user_model, BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from boards.models import Board, Membership
from kernel.access import Role
board = Board.objects.get(key=sys.argv[1])
user = get_user_model().objects.create_user(sys.argv[2])
Membership.objects.create(board=board, user=user, role=Role.OPERATOR)
session = import_module(settings.SESSION_ENGINE).SessionStore()
session[SESSION_KEY] = str(user.pk)
session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
session[HASH_SESSION_KEY] = user.get_session_auth_hash()
session.create()
print(f"{settings.SESSION_COOKIE_NAME}={session.session_key}")
"""


class Desk:
    """A board of its own with one person on it, so that nobody else's notices are in the way."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.board = site.new_board()["key"]
        self.name = f"bea-{secrets.token_hex(3)}"
        self.cookie = site.run(_MEMBER, self.board, self.name)
        self.token = site.new_token(self.board)["token"]

    def card(self, title: str, call: str = "", body: Any = None, **fields: Any) -> str:
        """Return the key of a new card whose worker ended by ``call``."""
        made = new_card(self.site, self.board, title, column="In progress", **fields)
        if call:
            grant = self.site.call(
                "POST", "/api/v1/claims", {"worker": "ada", "card": made["key"]}, token=self.token
            ).body
            lease = {"Lease-Token": grant["lease"]["token"]}
            attempt = f"/api/v1/attempts/{grant['attempt']['id']}{call}"
            answer = self.site.call("POST", attempt, body, token=self.token, headers=lease)
            assert answer.status == 200, answer.body
        return str(made["key"])

    def question(self, title: str = "Ask about it") -> str:
        body = {"reason": "unsure", "question": "Which way?", "options": ["Left", "Right"]}
        return self.card(title, "/block", body)

    def review(self, title: str = "Review it") -> str:
        return self.card(title, "/complete", {"summary": "All green"}, review_required=True)

    def wrote(self, title: str, content: str) -> str:
        """Return the key of a card in review that wrote ``content``, on a board with a secret."""
        return self.site.run(SPILLED, self.board, title, content).strip()

    def told(self) -> None:
        """Let what happened become notices, as the sweep does every two seconds."""
        self.site.run(_RAISE)

    def state(self, key: str) -> str:
        return str(self.site.call("GET", f"/api/v1/cards/{key}").body["state"])


@pytest.fixture
def desk(site: Site) -> Desk:
    return Desk(site)


def row(page: Page, key: str) -> Any:
    return page.locator(f'[data-notice][data-key="{key}"]')


async def test_a_question_is_answered_by_an_option_or_in_words(desk: Desk, open_page: Open) -> None:
    one, two = desk.question(), desk.question("Ask again")
    desk.told()
    page = await open_page("/inbox", cookie=desk.cookie)
    await expect(page).to_have_title("(2) Inbox · Holdfast")
    await expect(page.get_by_role("link", name="Inbox 2 open")).to_be_visible()
    await row(page, one).get_by_role("button", name="Left").click()
    await expect(row(page, one)).to_have_count(0)
    assert desk.state(one) == "waiting"
    await row(page, two).locator("summary", has_text="Answer").click()
    await page.get_by_label(f"Answer to {two}").fill("Neither; straight on")
    await row(page, two).locator("form.answer button[type=submit]").click()
    await expect(page.get_by_role("heading", name="Nothing needs you")).to_be_visible()
    await expect(page).to_have_title("Inbox · Holdfast")
    said = desk.site.call("GET", f"/api/v1/cards/{two}/messages").body["results"]
    assert said[0]["text"] == "Neither; straight on"
    assert said[0]["kind"] == "answer"


async def test_reviews_are_decided_by_keyboard_and_the_focus_goes_on(
    desk: Desk, open_page: Open
) -> None:
    first, second, third = (desk.review(f"Review {n}") for n in range(3))
    desk.told()
    page = await open_page("/inbox", cookie=desk.cookie)
    await page.keyboard.press("j")
    await expect(row(page, third)).to_be_focused()
    await page.keyboard.press("j")
    await expect(row(page, second)).to_be_focused()
    await page.keyboard.press("k")
    await page.keyboard.press("a")
    await expect(row(page, third)).to_have_count(0)
    await expect(row(page, second)).to_be_focused()
    assert desk.state(third) == "completed"
    await page.keyboard.press("d")
    await expect(page.get_by_label(f"Why {second} goes back")).to_be_focused()
    await page.keyboard.type("a test is missing")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(row(page, second)).to_have_count(0)
    assert desk.state(second) == "waiting"
    await expect(row(page, first)).to_be_focused()
    await page.keyboard.press("d")
    await page.keyboard.press("Escape")
    await expect(row(page, first)).to_be_focused()
    await page.keyboard.press("e")
    await expect(page.get_by_role("heading", name="Nothing needs you")).to_be_visible()
    assert desk.state(first) == "review"
    await page.keyboard.press("z")
    await expect(row(page, first)).to_be_visible()


async def test_a_secret_in_the_files_is_said_before_anything_is_approved(
    desk: Desk, open_page: Open
) -> None:
    clean = desk.wrote("Clean", "print()\n")
    held = desk.wrote("Held", "KEY = 'sk-live-0123456789abcdef'\n")
    desk.told()
    page = await open_page("/inbox", cookie=desk.cookie)
    told = row(page, held).get_by_text("app.py holds the secret DEPLOY_KEY")
    await expect(told).to_be_visible()
    await expect(row(page, clean).locator(".strip")).to_have_count(0)
    assert not await problems(page)
    # Also where the row was drawn before the secret was known.
    await row(page, held).locator("[data-spills]").evaluate("place => place.replaceChildren()")
    await row(page, held).focus()
    await page.keyboard.press("a")
    await expect(row(page, held).locator(".strip")).to_be_focused()
    await expect(told).to_be_visible()
    assert desk.state(held) == "review"
    await row(page, clean).get_by_role("button", name="Approve").click()
    await expect(row(page, clean)).to_have_count(0)
    assert desk.state(clean) == "completed"
    look = row(page, held).get_by_role("link", name="Review it")
    await expect(look).to_have_attribute("href", f"/cards/{held}?tab=checkpoints")
    await (
        row(page, held)
        .get_by_role("button", name="Approve without touching the repository")
        .click()
    )
    await expect(row(page, held)).to_have_count(0)
    assert desk.state(held) == "completed"


async def test_what_is_put_off_comes_back(desk: Desk, open_page: Open) -> None:
    key = desk.review()
    desk.told()
    page = await open_page("/inbox", cookie=desk.cookie)
    await row(page, key).get_by_text("Snooze").click()
    await row(page, key).get_by_role("button", name="Tomorrow at 9").click()
    await expect(row(page, key)).to_have_count(0)
    later = page.get_by_role("region", name="Later")
    await expect(later).to_contain_text(key)
    await later.get_by_role("button", name="Back now").click()
    await expect(row(page, key)).to_be_visible()


async def test_marked_read_stays_read(desk: Desk, open_page: Open) -> None:
    key = desk.review()
    desk.told()
    page = await open_page("/inbox", cookie=desk.cookie)
    await row(page, key).get_by_role("button", name="Mark read").click()
    await expect(row(page, key).get_by_role("button", name="Mark unread")).to_be_visible()
    await page.reload()
    await expect(row(page, key)).not_to_have_attribute("data-unread", "")


async def test_news_comes_by_itself_and_what_is_half_typed_stays(
    desk: Desk, open_page: Open
) -> None:
    first = desk.question()
    desk.told()
    page = await open_page("/inbox", cookie=desk.cookie)
    await row(page, first).locator("summary", has_text="Answer").click()
    field = page.get_by_label(f"Answer to {first}")
    await field.fill("half a tho")
    second = desk.review()
    desk.told()
    await page.evaluate(ASK)
    await expect(row(page, second)).to_be_visible()
    await expect(field).to_have_value("half a tho")
    await expect(field).to_be_focused()
    await expect(page).to_have_title("(2) Inbox · Holdfast")


async def test_a_refusal_is_said_and_leaves_the_row(desk: Desk, open_page: Open) -> None:
    key = desk.review()
    desk.told()
    page = await open_page("/inbox", cookie=desk.cookie)
    desk.site.call("POST", f"/api/v1/cards/{key}/move", {"column": "backlog"})
    await row(page, key).get_by_role("button", name="Approve").click()
    await expect(row(page, key).get_by_role("alert")).to_contain_text("not in review")


async def test_rules_are_kept_and_a_bad_one_is_named(desk: Desk, open_page: Open) -> None:
    page = await open_page("/inbox/settings", cookie=desk.cookie)
    await expect(page.get_by_text("sends no e-mail")).to_be_visible()
    await page.get_by_label("Mentions: Inbox").uncheck()
    await expect(page.get_by_label("Mentions: Browser")).to_be_disabled()
    await page.get_by_label("Reviews: E-mail").check()
    await page.get_by_label("My cards").check()
    await page.get_by_label("Quiet from").fill("22:00")
    await page.get_by_role("button", name="Save").click()
    await expect(page.locator("#rules .problem")).to_be_visible()
    await expect(page.get_by_label("to", exact=True)).to_be_focused()
    await expect(page.get_by_label("to", exact=True)).to_have_attribute("aria-invalid", "true")
    await page.get_by_label("to", exact=True).fill("07:00")
    await page.get_by_label("E-mail leaves").select_option("daily")
    await page.get_by_label("at", exact=True).fill("08:15")
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_text("Saved.")).to_be_visible()
    await page.reload()
    await expect(page.get_by_label("Mentions: Inbox")).not_to_be_checked()
    await expect(page.get_by_label("Reviews: E-mail")).to_be_checked()
    await expect(page.get_by_label("My cards")).to_be_checked()
    await expect(page.get_by_label("Quiet from")).to_have_value("22:00")
    await expect(page.get_by_label("at", exact=True)).to_have_value("08:15")


async def test_one_hidden_page_alone_pops_up_what_is_new(desk: Desk, open_page: Open) -> None:
    fake = """
      window.popped = [];
      window.Notification = class { static permission = "granted"; constructor(title, options) {
        window.popped.push([title, options.body]); } };
      window.hide = () => {
        Object.defineProperty(document, "hidden", {get: () => true, configurable: true});
        document.dispatchEvent(new Event("visibilitychange")); };
    """
    page = await open_page("/inbox/settings", cookie=desk.cookie)
    other = await page.context.new_page()
    for tab in (page, other):
        await tab.add_init_script(fake)
        await tab.goto("/inbox")
        await tab.evaluate("hide()")

    async def popped() -> list[list[str]]:
        found = []
        for tab in (page, other):
            await tab.evaluate(ASK)
            found += await tab.evaluate("popped")
        return found

    # The one that leads takes note of what is there: only what comes later is new.
    while not await page.evaluate("localStorage.getItem('inbox-told')"):
        assert not await popped()
    key = desk.question()
    desk.told()
    while not await popped():
        pass
    for _ in range(2):
        assert await popped() == [[f"{key} asks a question", "Which way?"]]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


async def test_a_webhook_is_added_tested_and_seen_to_arrive(
    desk: Desk, open_page: Open, receiver: Receiver
) -> None:
    page = await open_page(f"/boards/{desk.board}/webhooks", cookie=desk.cookie)
    await page.get_by_label("Address").fill("http://10.0.0.1/x")
    await page.get_by_role("button", name="Add webhook").click()
    await expect(page.get_by_role("alert").filter(has_text="private network")).to_be_visible()
    await page.get_by_label("Address").fill("https://hooks.example.org/in")
    await page.get_by_label("Kinds of events").fill("card.*")
    await page.get_by_role("button", name="Add webhook").click()
    await expect(page.locator("[data-secret] code")).to_contain_text("whsec_")
    hook = page.get_by_role("article", name="https://hooks.example.org/in")
    await hook.get_by_role("button", name="Send a test").click()
    await expect(hook.get_by_role("row").filter(has_text="webhook.tested")).to_contain_text(
        "Waiting"
    )
    point = (
        "import django; django.setup()\n"
        "from events.models import Webhook\n"
        f"Webhook.objects.filter(url__contains='hooks.example').update(url={receiver.url!r})"
    )
    desk.site.run(point)
    process = desk.site.python(_DELIVER, ALLOW_PRIVATE_WEBHOOKS="1")
    process.communicate(timeout=60)
    until(lambda: receiver.got)
    await expect(page.get_by_role("row").filter(has_text="webhook.tested")).to_contain_text("204")
    await page.get_by_role("button", name="Switch off").click()
    await expect(page.get_by_role("button", name="Switch on")).to_be_visible()
    await page.get_by_role("button", name="Delete", exact=True).click()
    await page.get_by_role("button", name="Delete it for good").click()
    await expect(page.get_by_role("article")).to_have_count(0)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", list(SIZES))
async def test_its_pages_shut_nobody_out(
    desk: Desk, open_page: Open, theme: str, size: str
) -> None:
    desk.question()
    desk.review()
    desk.card("Fail", "/fail", {"error": "no disk", "retryable": False})
    page = await open_page("/inbox", cookie=desk.cookie, theme=theme, viewport=SIZES[size])
    desk.told()
    for path in ("/inbox", "/inbox/settings", f"/boards/{desk.board}/webhooks"):
        await page.goto(path)
        for summary in await page.locator("main summary").all():
            await summary.click()
        await page.evaluate(AXE)
        found = await page.evaluate(
            """async () => (await axe.run(document, {resultTypes: ["violations"]})).violations
               .map(v => v.id + ": " + v.nodes.map(n => n.target.join(" ")).join(", "))"""
        )
        assert not found, (path, found)
        wide = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, path
