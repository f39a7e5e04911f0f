"""What the templates draw with: icons, state glyphs, priorities, avatars, ages."""

from __future__ import annotations

import json
import zlib
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django import template
from django.templatetags.static import static
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from boards import markup, selectors
from boards.insights import tables
from boards.models import Attempt, Card
from goals import amendments
from goals.models import Amendment

register = template.Library()
_SPRITE = static("icons.svg")
register.filter("markdown", markup.markdown)
register.filter("tokens", tables.tokens)

#: The glyph and the words for each look of a card; every one has a shape of its own.
LOOKS: dict[str, tuple[str, Any]] = {
    "backlog": ("idle", Card.State.BACKLOG.label),
    "waiting": ("ready", Card.State.WAITING.label),
    "running": ("run", Card.State.RUNNING.label),
    "blocked": ("need", Card.State.BLOCKED.label),
    "review": ("rev", Card.State.REVIEW.label),
    "completed": ("ok", Card.State.COMPLETED.label),
    "cancelled": ("idle", Card.State.CANCELLED.label),
    "stalled": ("fail", _("Stalled")),
    "in_progress": ("run", _("In progress")),
}
PRIORITIES = (_("Urgent"), _("High"), _("Medium"), _("Low"), _("No"))
#: What is shown of codes that are no field of a model.
WORDS: dict[str, Any] = {
    "added": _("added"),
    "copied": _("copied"),
    "deleted": _("deleted"),
    "modified": _("modified"),
    "renamed": _("renamed"),
    "type_changed": _("of another type"),
    "expired": _("expired"),
    "revoked": _("revoked"),
    "viewer": _("viewer"),
    "member": _("member"),
    "operator": _("operator"),
}
HUES = 8
#: Pages that lie below one that the side bar has.
BELOW = {
    "goal": "goals",
    "evidence": "goals",
    "new_goal": "goals",
    "plans": "goals",
    "plan": "goals",
    "amendments": "goals",
    "worker": "workers",
}


@register.filter
def part(view: str) -> str:
    """The part of the site that a view belongs to: a name that the side bar knows."""
    name = view.rpartition(":")[2]
    return BELOW.get(name, name)


@register.filter
def priority_words(level: int) -> str:
    """A priority in one word."""
    return str(PRIORITIES[level] if level < 4 else _("None"))


@register.filter
def attempt_words(status: str) -> str:
    """How an attempt stands or ended, in words."""
    return str(Attempt.Status(status).label) if status in Attempt.Status.values else status


@register.filter
def in_words(code: str) -> str:
    """A code in the reader's words; one that has none as it is."""
    return str(WORDS.get(code, code))


@register.simple_tag
def icon(name: str, size: str = "") -> SafeString:
    """An icon of the sprite; decoration, hidden from screen readers."""
    return format_html(
        '<svg class="i {}" viewBox="0 0 16 16" aria-hidden="true"><use href="{}#i-{}"/></svg>',
        size,
        _SPRITE,
        name,
    )


@register.simple_tag
def glyph(look: str) -> SafeString:
    """The state glyph of a card or column, named for screen readers."""
    shape, words = LOOKS.get(look, LOOKS["backlog"])
    return format_html(
        '<svg class="st {}" viewBox="0 0 14 14" role="img" aria-label="{}">'
        '<use href="{}#st-{}"/></svg>',
        shape,
        words,
        _SPRITE,
        shape,
    )


@register.filter
def look_class(look: str) -> str:
    """The colour class of a look."""
    return LOOKS.get(look, LOOKS["backlog"])[0]


@register.filter
def look_words(look: str) -> str:
    """A look in words."""
    return str(LOOKS.get(look, LOOKS["backlog"])[1])


@register.simple_tag
def priority(level: int) -> SafeString:
    """The priority bars; the stylesheet counts upwards, the API downwards."""
    words = PRIORITIES[level]
    inner = "!" if level == 0 else SafeString("<i></i><i></i><i></i>")
    return format_html(
        '<span class="prio" data-p="{}" role="img" aria-label="{} priority" title="{}">{}</span>',
        4 - level,
        words,
        words,
        inner,
    )


@register.simple_tag
def avatar(name: str, extra: str = "") -> SafeString:
    """A worker's or a person's initial on the hue that its name always has."""
    plain = name.partition(":")[2] or name
    return format_html(
        '<span class="av a{} {}" aria-hidden="true">{}</span>',
        zlib.crc32(plain.encode()) % HUES,
        extra,
        plain[:1].upper(),
    )


@register.filter
def hue(text: str) -> int:
    """The hue of a label: the same for the same word."""
    return zlib.crc32(str(text).encode()) % HUES


@register.filter
def who(actor: str) -> str:
    """An actor without its kind."""
    return actor.partition(":")[2] or actor


@register.filter
def span(seconds: float | timedelta | None) -> str:
    """A duration in one or two units."""
    return "" if seconds is None else selectors.spelled(seconds)


@register.simple_tag
def age(at: datetime | None) -> SafeString:
    """How long ago that was; the page counts on by itself."""
    if at is None:
        return SafeString("")
    return format_html(
        '<time datetime="{}" data-age title="{}">{}</time>',
        at.isoformat(),
        f"{at:%Y-%m-%d %H:%M:%S} UTC",
        selectors.spelled(timezone.now() - at),
    )


@register.simple_tag
def clock(at: datetime | None) -> SafeString:
    """The time of day, which the page turns into the reader's own."""
    if at is None:
        return SafeString("")
    return format_html(
        '<time datetime="{}" data-clock title="{}">{}</time>',
        at.isoformat(),
        f"{at:%Y-%m-%d %H:%M:%S} UTC",
        f"{at:%H:%M:%S}",
    )


@register.filter
def asked_lines(asked: Any) -> str:
    """What a goal asks for: a text, or entries a line each."""
    entries = asked if isinstance(asked, list) else [asked]
    return "\n".join(str(entry) for entry in entries if entry not in (None, ""))


@register.filter
def made_before(at: datetime, changes: list[Amendment]) -> str:
    """What has changed in what the goal asks for since then; nothing if it asks the same."""
    return ", ".join(amendments.made_before(changes, at))


@register.simple_tag
def moment(at: datetime | None) -> SafeString:
    """The day and time, which the page turns into the reader's own."""
    if at is None:
        return SafeString("")
    return format_html(
        '<time datetime="{}" data-moment>{}</time>', at.isoformat(), f"{at:%Y-%m-%d %H:%M} UTC"
    )


@register.filter
def visible(text: str) -> str:
    """The text verbatim, with what can't be seen spelled out."""
    return markup.visible(text)


@register.simple_tag
def ring(percent: int) -> SafeString:
    """How much of something is done, as a ring."""
    return format_html(
        '<svg class="ring" viewBox="0 0 14 14" role="img" aria-label="{} percent done">'
        '<circle cx="7" cy="7" r="5.5"/><circle class="done" cx="7" cy="7" r="5.5" '
        'pathLength="100" stroke-dasharray="{} 100" transform="rotate(-90 7 7)"/></svg>',
        percent,
        percent,
    )


@register.filter
def usd(value: Decimal | None) -> str:
    """An amount of money, to the cent; nothing for none."""
    return f"${value:,.2f}" if value else ""


@register.filter
def tojson(value: Any) -> str:
    """A value as JSON, for people to read."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
