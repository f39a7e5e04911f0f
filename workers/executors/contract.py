"""What passes between a worker and an executor. Standard library only.

An executor carries out the steps of one kind. It is a folder beside this file whose module
``executor`` has it as ``EXECUTOR``, or an object that an installed package names under the
entry point ``holdfast.executors``:

    class Echo:
        kind = "echo"                 # the field of a step that says what to do
        capabilities = ("echo",)      # what its host can do, for cards that require it

        def read(self, value, refuse): ...         # check what stands in the field
        def available(self): return None           # or why this host can't, in a sentence
        def carry_out(self, assignment): ...       # do it, return an Ending

    EXECUTOR = Echo()

The worker around it holds the lease, prepares the workspace, records how the step ended with
a checkpoint, and ends what runs when the lease is lost. An executor that works for long
records what it has behind it in the assignment's journal: whoever is handed the same step
later finds that there, and the files as they were then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from workers.executors.shell import Result
from workers.terms import Host


class Line(Protocol):
    """The other end of a command that is being run. Only its ``on_text`` may use it."""

    def send(self, text: str) -> None:
        """Give the command more to read on its standard input. Never blocks."""
        ...

    def hang_up(self, within_seconds: float) -> None:
        """Close its input, and end it unless it ends by itself within the seconds."""
        ...

    def flush(self) -> None:
        """Let the live log have what was read so far."""
        ...


Refuse = Callable[[str, str], None]
#: Gets live output as it comes: a batch of (stream, text), secrets already struck out.
OnOutput = Callable[[Sequence[tuple[str, str]]], None]
#: Gets a stream's text the moment it is read, whole, secrets struck out.
OnText = Callable[[Line, str, str], None]


@dataclass(frozen=True, slots=True)
class Usage:
    """What a piece of work cost. Amounts are of that piece alone, never running totals."""

    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: str = "0"  # a decimal number
    model: str = ""

    def as_json(self) -> dict[str, Any]:
        return {
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cost_usd": self.cost_usd,
            "model": self.model,
        }


@dataclass(frozen=True, slots=True)
class Ending:
    """How a step ended.

    ``how`` follows the step's name in a sentence: "failed with exit code 1 after 3.2 s".
    ``last_words`` is what the next attempt should hear if it failed, ``summary`` what was done
    if somebody can say so. ``detail`` and ``outputs`` are JSON: what is kept as the step's
    result, and what later steps may use by name. With ``again`` False another try is pointless.
    ``broken``: what carries such steps out does not work on this host, for no fault of the card.
    """

    succeeded: bool
    how: str
    last_words: str = ""
    summary: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, Any] = field(default_factory=dict)
    usage: Usage | None = None
    again: bool = True
    broken: bool = False


class HandOver(Exception):
    """The card must be given back although the step is not done: it stays begun.

    ``reason`` is a word for programs (``rate_limited``, ``shutdown``), ``because`` a sentence.
    Nobody takes the card for ``retry_after_seconds``. It counts as no failure.
    """

    def __init__(
        self, reason: str, because: str, retry_after_seconds: int = 0, lacks: str = ""
    ) -> None:
        super().__init__(because)
        self.reason, self.because = reason, because
        self.retry_after_seconds = retry_after_seconds
        self.lacks = lacks  # what this host has not, see ``Lacking``


class Ask(Exception):
    """A person must answer before the step can go on; the card is blocked until then.

    ``terms`` are the fields of ``POST /attempts/{attempt}/block`` that say what answers it takes
    and what follows when nobody answers: ``question_kind``, ``detail``, ``default``,
    ``timeout_seconds`` and ``on_timeout``.
    """

    def __init__(self, question: str, options: Sequence[str] = (), **terms: Any) -> None:
        super().__init__(question)
        self.question, self.options, self.terms = question, tuple(options), terms


class Lacking(Exception):
    """This host can't do the step, and another may: the card is handed over to be done there.

    ``lacks`` says what in a word of ``boards.needs``, such as ``agent.cli=codex``. Where nobody
    else may have it, ``instead`` is what becomes of the step: an exception, or how it ended.
    """

    def __init__(self, lacks: str, because: str, instead: Exception | Ending) -> None:
        super().__init__(because)
        self.lacks, self.because, self.instead = lacks, because, instead


#: The terms on which a question may be asked, see ``Ask``.
TERMS = ("question_kind", "detail", "default", "timeout_seconds", "on_timeout")


class Refused(Exception):
    """What was asked of the server is not allowed; one sentence says why. Work may go on."""


class Cancellable(Protocol):
    """What can be ended from another thread: at once, or given a moment."""

    def cancel(self, *, at_once: bool = False) -> None: ...


@dataclass(frozen=True, slots=True)
class Entry:
    """A step within the step, as the journal has it.

    ``replay``: it has its ``result``, don't do it again. ``in_doubt``: an earlier attempt
    began it and never said how it ended. ``error`` is set if it failed.
    """

    key: str
    replay: bool = False
    in_doubt: bool = False
    result: Any = None
    error: str = ""


class Journal(Protocol):
    """What an executor has behind it within its step; every call is fenced.

    Keys are the executor's own, of the characters of step keys, and stand below the step's.
    Entries are kept by key: a key that has its result keeps it. Each raises LeaseLost.
    """

    def recorded(self, round: int | None = None) -> dict[str, Entry]:
        """Return what this and earlier attempts recorded, in order. Only successes replay.

        Each round has a journal of its own; ``round`` names that of an earlier one.
        """
        ...

    def begin(
        self,
        key: str,
        title: str = "",
        kind: str = "",
        input: Any = None,
        *,
        continues: bool = False,
    ) -> Entry:
        """Say that the piece of work begins; the entry tells whether to do it.

        One that ``continues`` is not in doubt when it is begun again, such as a question.
        """
        ...

    def finish(
        self,
        key: str,
        result: Any = None,
        *,
        error: str = "",
        usage: Usage | None = None,
        checkpoint: str = "",
        next_step: str = "",
        decisions: Sequence[Mapping[str, Any]] = (),
        discoveries: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Record how it ended: well, unless ``error`` says otherwise.

        ``checkpoint`` is one sentence on where things stand: the files as they are now are
        kept with it, in the same transaction, and are what a later attempt starts from. With
        it go ``decisions`` and ``discoveries``, as the agent API has them, for the goal.
        """
        ...

    def record(
        self,
        key: str,
        result: Any = None,
        *,
        title: str = "",
        kind: str = "",
        input: Any = None,
        error: str = "",
        usage: Usage | None = None,
        checkpoint: str = "",
        next_step: str = "",
        decisions: Sequence[Mapping[str, Any]] = (),
        discoveries: Sequence[Mapping[str, Any]] = (),
        seconds: float = 0.0,
    ) -> None:
        """Begin and finish at once; it took so many seconds."""
        ...

    def propose(self, key: str, title: str, description: str = "") -> str:
        """Add a card to the same goal and return its name; a key that has its card keeps it.

        Raises Refused when the attempt may add no more.
        """
        ...

    def rest(self) -> None:
        """Let go of what this thread holds of the store: for threads of an executor's own."""
        ...


class Assignment(Protocol):
    """One step of one attempt, as an executor is handed it.

    ``given`` is what ``read`` returned. ``tree`` is the folder to work in, ``home`` and ``tmp``
    are private to the attempt, ``env`` is a command's whole environment. A command that writes
    lines ``name=value``, or JSON objects, into the file ``$HOLDFAST_OUTPUT`` gives the step
    outputs of these names, beside those of its ``Ending``. ``host`` is what the operator of this
    host has set. ``token`` opens the server at ``url``
    for this attempt alone, while it lasts. ``round`` counts from 1; from the second on,
    ``feedback`` says what checks found wrong with the one before, and ``previous`` is what was
    kept as that one's result.
    """

    key: str
    title: str
    given: Any
    timeout_seconds: float
    tree: Path
    folder: Path
    home: Path
    tmp: Path
    env: Mapping[str, str]
    card: str
    attempt: str
    url: str
    token: str
    host: Host
    in_doubt: bool
    round: int
    feedback: str
    previous: Mapping[str, Any]

    @property
    def journal(self) -> Journal: ...

    def briefing(self, max_tokens: int = 4000) -> str:
        """Return what a worker is told of the card, as Markdown."""
        ...

    def process(
        self,
        run: str,
        *,
        env: Mapping[str, str] | None = None,
        on_output: OnOutput | None = None,
        on_text: OnText | None = None,
        tick_seconds: float | None = None,
        opening: str | None = None,
        timeout_seconds: float | None = None,
        cap_chars: int | None = None,
    ) -> Result:
        """Run a command for ``/bin/sh`` in the tree to its end, sandboxed as the board says.

        Its output goes to the live log, and to ``on_output``. ``on_text`` is for who must hear
        every word at once, to answer or to record it: it is called every ``tick_seconds``, too,
        with no text, and what it raises ends the command and comes through. With ``opening`` the
        command has an input, and reads that first. It is ended when the lease is lost or this
        worker stops; call ``check`` after it.
        """
        ...

    def guarding(self, work: Cancellable) -> AbstractContextManager[None]:
        """Have ``work`` cancelled should the lease be lost, or this worker stop, within."""
        ...

    def redacted(self, value: Any) -> Any:
        """Return the JSON with every secret that is known here struck out."""
        ...

    def hide(self, secret: str) -> None:
        """Count the text among the secrets from now on."""
        ...

    def files_are_as_recorded(self) -> bool:
        """Return whether the files are those of the newest snapshot, but for what is ignored."""
        ...

    def agents_word(self) -> dict[str, Any] | None:
        """Return what a program of this attempt said last of its end, with ``token``.

        ``says`` is ``complete``, ``fail``, ``block`` or ``release``; the other fields are those
        of the call of that name. It changed nothing: what becomes of it is the executor's to say.
        """
        ...

    def say(self, stream: str, text: str) -> None:
        """Append to the live log."""
        ...

    def note(self, sentence: str) -> None:
        """Append a sentence of the worker's own to the live log."""
        ...

    def progress(self, note: str) -> None:
        """Say what goes on, in a few words, for the card on the board."""
        ...

    def ask(
        self, question: str, options: Sequence[str] = (), *, key: str = "", **terms: Any
    ) -> str:
        """Return a person's answer, if there is one; else raise Ask, which blocks the card.

        With a ``key`` it is asked by the piece of work of that key in the journal, which was
        begun, and once for each; without, by the step itself. An answer that is none of the
        ``options`` is no answer. For the ``terms`` see ``Ask``.
        """
        ...

    def check(self) -> None:
        """Pass if work should go on. Raises HandOver, or LeaseLost: write nothing more then."""
        ...

    def make_room(self) -> None:
        """Pass unless the card had its turn and others wait for a worker. Raises HandOver.

        For executors that find in the journal all that they did: call it between two pieces of
        work, with nothing begun, once something was recorded.
        """
        ...


class Executor(Protocol):
    """Carries out the steps of one kind. It keeps nothing between two calls.

    It may also have, see ``trait``:

    * ``commands``, places in what is given that a shell reads, ``""`` for the whole: a
      ``${{ … }}`` there becomes a variable of the shell and never a part of the command. Those
      named ``command`` or ``run`` are taken for such unless it says otherwise.
    * ``continues``, true if its journal is one for all tries: what it has recorded stays done
      when the step fails, too, and the step is never in doubt.
    * ``model_driven``, true if a step is over when a model says so. It is then followed by the
      checks of the goal's criteria, unless the workflow has checks for it.
    * ``variants``, what a host may have or lack for some of the steps: the words for ``Lacking``,
      each with the capability of a host that has it.
    * ``needs_network``, called with what is given: whether its commands can't do without the
      network. Such a step is not begun where the board allows none.
    """

    kind: str
    capabilities: Sequence[str]

    def read(self, value: Any, refuse: Refuse) -> Any:
        """Return what stands in the step's field as JSON with every default written out.

        Says what is wrong by ``refuse(place, sentence)``, place by place, and returns None.
        """
        ...

    def available(self) -> str | None:
        """Return None if this host can carry such steps out, or why not, in one sentence."""
        ...

    def carry_out(self, assignment: Assignment) -> Ending:
        """Do the step. Whatever it started is over when this returns or raises."""
        ...


_USUAL: Mapping[str, Any] = {
    "commands": ("command", "run"),
    "continues": False,
    "model_driven": False,
    "variants": {},
    "needs_network": lambda given: False,
}


def trait(executor: Executor, name: str) -> Any:
    """Return what an executor says of itself beyond what it must."""
    return getattr(executor, name, _USUAL[name])
