"""Markdown that people and workers wrote, as HTML that can do nothing but be read."""

from __future__ import annotations

import re

import nh3
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore
from markdown_it.token import Token

_MARKDOWN = MarkdownIt("commonmark", {"html": False, "linkify": False}).enable(
    ["table", "strikethrough"]
)
_TAGS = {
    *("p", "br", "hr", "em", "strong", "s", "code", "pre", "blockquote", "ul", "ol", "li", "a"),
    *("h1", "h2", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td"),
    "input",  # only those made here: raw HTML shows as text
}
MAX_CHARS = 200_000
_TASK = re.compile(r"\[([ xX])\](?=\s)")


def _tasks(state: StateCore) -> None:
    """Make a box of "[ ]" at the beginning of a list's entry; ``data-task`` is its line."""
    for item, paragraph, inline in zip(
        state.tokens, state.tokens[1:], state.tokens[2:], strict=False
    ):
        if item.type != "list_item_open" or paragraph.type != "paragraph_open" or not inline.map:
            continue
        found = _TASK.match(inline.content)
        if found is None or not inline.children or inline.children[0].type != "text":
            continue
        first = inline.children[0]
        box = Token("html_inline", "", 0)
        checked = "" if found[1] == " " else " checked"
        box.content = f'<input type="checkbox" data-task="{inline.map[0]}" disabled{checked}>'
        first.content = first.content[found.end() :]
        item.attrSet("class", "task")
        inline.children.insert(0, box)


_MARKDOWN.core.ruler.after("inline", "tasks", _tasks)


def markdown(text: str) -> SafeString:
    """Return ``text`` rendered; raw HTML in it shows as text, images and scripts are left out."""
    html = nh3.clean(
        _MARKDOWN.render(text[:MAX_CHARS]),
        tags=_TAGS,
        attributes={
            "a": {"href", "title"},
            "li": {"class"},
            "input": {"type", "checked", "disabled", "data-task"},
        },
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow",
    )
    return mark_safe(html)


#: Controls, overrides of the writing direction, and characters that show nothing.
_HIDDEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]"
    r"|[\U000e0000-\U000e0fff]"
)


def visible(text: str) -> str:
    """Return the text verbatim, what can't be seen or reorders it spelled out: ``⟨U+202E⟩``."""
    return _HIDDEN.sub(lambda m: f"⟨U+{ord(m[0]):04X}⟩", text)


def tasks_of(text: str) -> tuple[int, int]:
    """Return how many entries of the text's task lists are done, and how many there are."""
    if "[" not in text:
        return 0, 0
    html = _MARKDOWN.render(text[:MAX_CHARS])
    return html.count(" disabled checked>"), html.count(" disabled>") + html.count(
        " disabled checked>"
    )
