"""The little language of ``if`` and of ``${{ … }}``: it reads values and compares them.

    steps.build.status == 'succeeded' && inputs.channel != 'beta'
    contains(steps['test:3.11'].outputs.notes, 'slow') or not env.QUICK

Nothing in it can call, change or reach anything but the values it is given. An expression is
read when the workflow is, so that a mistake is refused before anything runs.

* values: ``inputs``, ``steps``, ``env``, ``matrix`` and ``card``, with ``.name`` or ``['name']``;
  what isn't there is null
* literals: ``'text'``, ``"text"``, ``12``, ``1.5``, ``true``, ``false``, ``null``
* ``!`` or ``not``, ``&&`` or ``and``, ``||`` or ``or``, brackets, ``==``, ``!=``, ``<``, ``<=``,
  ``>``, ``>=``; ``and`` and ``or`` give the operand that decided, so ``a || 'default'`` works
* ``contains(text or list, item)``, ``starts_with(text, start)``, ``ends_with(text, end)``

False are false, null, 0, empty text and lists, and the texts ``false`` and ``0``: what a command
writes is text. A number and a text compare as numbers where the text is one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

MAX_CHARS = 2000
MAX_DEPTH = 30
ROOTS = ("inputs", "steps", "env", "matrix", "card")

Path = tuple[str, ...]


class Refused(Exception):
    """The text is no expression, in one sentence."""


class Unusable(Exception):
    """The expression makes no sense of these values, in one sentence."""


@dataclass(frozen=True, slots=True)
class Literal:
    value: Any


@dataclass(frozen=True, slots=True)
class Lookup:
    path: Path


@dataclass(frozen=True, slots=True)
class Operation:
    """``name`` is the operator or function, ``args`` what it is of."""

    name: str
    args: tuple[Node, ...]


Node = Literal | Lookup | Operation


@dataclass(frozen=True, slots=True)
class Expression:
    """What a text says, read once."""

    text: str
    node: Node

    def value(self, context: Mapping[str, Any]) -> Any:
        """Return what it comes to. Raises Unusable."""
        return _value(self.node, context)

    def holds(self, context: Mapping[str, Any]) -> bool:
        """Return whether it comes to something true. Raises Unusable."""
        return truth(self.value(context))

    def paths(self) -> Iterator[Path]:
        """Return what it looks up."""
        todo: list[Node] = [self.node]
        while todo:
            node = todo.pop()
            if isinstance(node, Lookup):
                yield node.path
            elif isinstance(node, Operation):
                todo += node.args


def read(text: str) -> Expression:
    """Return the expression in ``text``. Raises Refused."""
    if len(text) > MAX_CHARS:
        raise Refused(f"is longer than {MAX_CHARS} characters; split it.")
    return Expression(text.strip(), _Parser(text).whole())


def truth(value: Any) -> bool:
    """Return whether a value counts as true."""
    return bool(value) and value not in ("false", "0")


def text_of(value: Any) -> str:
    """Return a value as it stands in text: JSON, but text as it is and nothing for null."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


# ── placeholders ──

_PLACEHOLDER = re.compile(
    r"""\$\{\{((?:[^'"}]|'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|\}(?!\}))*)\}\}""", re.DOTALL
)


def placeholders(text: str) -> list[Expression]:
    """Return the expressions within ``${{ … }}`` in a text. Raises Refused."""
    found = [read(match.group(1)) for match in _PLACEHOLDER.finditer(text)]
    if "${{" in _PLACEHOLDER.sub("", text):
        raise Refused("has a '${{' without its '}}'.")
    return found


def filled(text: str, put: Callable[[Expression], str]) -> str:
    """Return the text with what ``put`` says in place of each placeholder."""
    return _PLACEHOLDER.sub(lambda match: put(read(match.group(1))), text)


def alone(text: str) -> Expression | None:
    """Return the expression if the text is one placeholder and nothing else."""
    match = _PLACEHOLDER.fullmatch(text.strip())
    return read(match.group(1)) if match else None


# ── reading ──

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<number>-?\d+(?:\.\d+)?)(?![A-Za-z_0-9.])
    | (?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
    | (?P<mark>&&|\|\||==|!=|<=|>=|[<>!().\[\],])
    | (?P<name>[A-Za-z_][A-Za-z0-9_-]*)
    )""",
    re.VERBOSE | re.DOTALL,
)
_SPELLED = {"and": "&&", "or": "||", "not": "!"}
_WORDS: Mapping[str, Any] = {"true": True, "false": False, "null": None}
_COMPARISONS = ("==", "!=", "<=", ">=", "<", ">")
_FUNCTIONS = {"contains": 2, "starts_with": 2, "ends_with": 2}


class _Parser:
    """Recursive descent: or, and, not, comparison, value."""

    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._at = self._depth = 0

    def whole(self) -> Node:
        if not self._tokens:
            raise Refused("is empty; write what must hold, such as inputs.channel == 'beta'.")
        node = self._either()
        if self._at < len(self._tokens):
            raise Refused(f"can't be read from {self._shown()} on; is an operator missing?")
        return node

    def _either(self) -> Node:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise Refused(f"nests deeper than {MAX_DEPTH}; split it.")
        node = self._chained("||", self._both)
        self._depth -= 1
        return node

    def _both(self) -> Node:
        return self._chained("&&", self._negated)

    def _chained(self, mark: str, operand: Callable[[], Node]) -> Node:
        operands = [operand()]
        while self._take(mark):
            operands.append(operand())
        return Operation(mark, tuple(operands)) if len(operands) > 1 else operands[0]

    def _negated(self) -> Node:
        negations = 0
        while self._take("!"):
            negations += 1
        node = self._compared()
        for _ in range(min(negations, 2 - negations % 2)):
            node = Operation("!", (node,))
        return node

    def _compared(self) -> Node:
        node = self._single()
        for mark in _COMPARISONS:
            if self._take(mark):
                return Operation(mark, (node, self._single()))
        return node

    def _single(self) -> Node:
        kind, token = self._next()
        if kind == "number":
            return Literal(float(token) if "." in token else int(token))
        if kind == "text":
            return Literal(_unquoted(token))
        if token == "(":
            node = self._either()
            self._expect(")")
            return node
        if kind != "name":
            raise Refused(f"has {token!r} where a value belongs.")
        if token in _WORDS:
            return Literal(_WORDS[token])
        if self._peek() == "(":
            return self._called(token)
        return self._looked_up(token)

    def _called(self, name: str) -> Node:
        if name not in _FUNCTIONS:
            raise Refused(f"calls {name}, which is unknown; there are {', '.join(_FUNCTIONS)}.")
        self._expect("(")
        args = [self._either()]
        while self._take(","):
            args.append(self._either())
        self._expect(")")
        if len(args) != _FUNCTIONS[name]:
            raise Refused(f"gives {name} {len(args)} values; it takes {_FUNCTIONS[name]}.")
        return Operation(name, tuple(args))

    def _looked_up(self, root: str) -> Node:
        if root not in ROOTS:
            raise Refused(
                f"names {root}, which is unknown; there are {', '.join(ROOTS)}. "
                "Text stands in quotes."
            )
        path = [root]
        while True:
            if self._take("."):
                kind, token = self._next()
                if kind not in ("name", "number"):
                    raise Refused(f"has {token!r} where a name belongs; use ['…'] for other keys.")
                path.append(token)
            elif self._take("["):
                kind, token = self._next()
                if kind not in ("text", "number"):
                    raise Refused(
                        f"has {token!r} in brackets; a quoted name or a number goes there."
                    )
                path.append(_unquoted(token) if kind == "text" else token)
                self._expect("]")
            else:
                return Lookup(tuple(path))

    def _peek(self) -> str:
        return self._tokens[self._at][1] if self._at < len(self._tokens) else ""

    def _shown(self) -> str:
        return repr(self._peek()) if self._at < len(self._tokens) else "its end"

    def _next(self) -> tuple[str, str]:
        if self._at >= len(self._tokens):
            raise Refused("ends too early.")
        self._at += 1
        return self._tokens[self._at - 1]

    def _take(self, mark: str) -> bool:
        if self._at < len(self._tokens) and self._tokens[self._at] == ("mark", mark):
            self._at += 1
            return True
        return False

    def _expect(self, mark: str) -> None:
        if not self._take(mark):
            raise Refused(f"has {self._shown()} where {mark!r} belongs.")


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    at, end = 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            raise Refused(f"can't be read from {text[at:].strip()[:20]!r} on.")
        at = match.end()
        kind = match.lastgroup or ""
        token = match.group(kind)
        # The word after a dot is a name, whatever it is elsewhere.
        if kind == "name" and token in _SPELLED and text[: match.start(kind)].rstrip()[-1:] != ".":
            kind, token = "mark", _SPELLED[token]
        yield kind, token


def _unquoted(token: str) -> str:
    return re.sub(r"\\(.)", r"\1", token[1:-1], flags=re.DOTALL)


# ── evaluating ──


def _value(node: Node, context: Mapping[str, Any]) -> Any:
    if isinstance(node, Literal):
        return node.value
    if isinstance(node, Lookup):
        return _found(node.path, context)
    name, args = node.name, node.args
    first = _value(args[0], context)
    if name == "!":
        return not truth(first)
    if name in ("&&", "||"):
        for operand in args[1:]:
            if truth(first) == (name == "||"):
                break
            first = _value(operand, context)
        return first
    return _APPLIED[name](first, _value(args[1], context))


def _found(path: Path, context: Mapping[str, Any]) -> Any:
    value: Any = context
    for part in path:
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, str) != isinstance(b, str) and None not in (a, b):
        pair = _numbers(a, b)
        return pair[0] == pair[1] if pair else text_of(a) == text_of(b)
    if isinstance(a, bool) != isinstance(b, bool):
        return False
    return bool(a == b)


def _numbers(a: Any, b: Any) -> tuple[float, float] | None:
    if isinstance(a, bool) or isinstance(b, bool):
        return None
    try:
        return float(a), float(b)
    except (TypeError, ValueError, OverflowError):
        return None


def _below(a: Any, b: Any) -> bool:
    if a is None or b is None:
        return False
    pair: Any = (a, b) if isinstance(a, str) and isinstance(b, str) else _numbers(a, b)
    if pair is None:
        raise Unusable(f"{_brief(a)} and {_brief(b)} have no order.")
    return bool(pair[0] < pair[1])


def _brief(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)[:60]


def _contains(there: Any, item: Any) -> bool:
    if isinstance(there, list):
        return any(_same(one, item) for one in there)
    if isinstance(there, Mapping):
        return text_of(item) in there
    return text_of(item) in text_of(there)


_APPLIED: Mapping[str, Callable[[Any, Any], bool]] = {
    "==": _same,
    "!=": lambda a, b: not _same(a, b),
    "<": _below,
    ">": lambda a, b: _below(b, a),
    "<=": lambda a, b: None not in (a, b) and not _below(b, a),
    ">=": lambda a, b: None not in (a, b) and not _below(a, b),
    "contains": _contains,
    "starts_with": lambda a, b: text_of(a).startswith(text_of(b)),
    "ends_with": lambda a, b: text_of(a).endswith(text_of(b)),
}
