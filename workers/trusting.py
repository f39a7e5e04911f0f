"""What a worker on another host may be told of a board, by the token it claimed with.

Whoever holds a lease could ask, an agent with a member's token too. So a board's secrets, and
what opens its repository, go only where they are used: to the token that claimed a card with a
workflow, on a board that allows commands, and only if the token was made to carry secrets.
"""

from __future__ import annotations

from dataclasses import replace

from boards.models import Attempt, Token
from kernel.access import Principal
from kernel.addresses import credentials_in, shown_to_all
from workers.terms import Terms

#: What is said to be withheld where the repository's address has a password in it.
REPOSITORY = "the password of its repository"


def told(terms: Terms, attempt: Attempt, principal: Principal) -> Terms:
    """Return the terms as the principal may hear them, of an attempt with its card loaded."""
    carries = terms.commands and attempt.card.workflow is not None
    if carries and _is_trusted(attempt, principal):
        return terms
    withheld: tuple[str, ...] = ()
    if carries:
        withheld = (*terms.secrets, *terms.closed)
        if credentials_in(terms.repository):
            withheld = (REPOSITORY, *withheld)
    return replace(
        terms,
        repository=shown_to_all(terms.repository),
        secrets={},
        closed=(),
        withheld=withheld,
    )


def _is_trusted(attempt: Attempt, principal: Principal) -> bool:
    token = attempt.token_id
    if token is None or principal.kind != "token" or str(token) != principal.id:
        return False
    return Token.objects.filter(pk=token, carries_secrets=True).exists()
