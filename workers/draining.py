"""Takes workers out of service, by those who operate every board that they work on.

A built-in worker goes with its host: the others there have the same disk and the same network,
and each process has a name of its own. Any other worker is drained by itself: its claims are
refused, and its heartbeats say ``stop``, so that it hands over what it holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from uuid import UUID

from boards.models import Membership, Token
from kernel.access import Principal, Role
from kernel.errors import Forbidden, NotClaimable
from workers import hosts
from workers.breakers import Place
from workers.models import Host, Worker

_BUILT_IN = re.compile(r"builtin-(.+)-\d+-[0-9a-f]{4}")


def drain(principal: Principal, worker: Worker, wanted: bool) -> None:
    """Have the worker, or the host that it belongs to, begin nothing, or let it again.

    Raises Forbidden to whoever doesn't operate every board that it works on.
    """
    require(principal, [worker])
    host = host_of(worker)
    if host is not None:
        hosts.drain(host, wanted)
    else:
        Worker.objects.filter(pk=worker.pk).update(draining=wanted)
        worker.draining = wanted
        if not wanted:
            hosts.let_work(Place.of(worker))


def drain_host(principal: Principal, name: str, wanted: bool) -> Host:
    """Have the host's built-in workers begin nothing, or let them again.

    Raises NotFound, and Forbidden to whoever doesn't operate every board.
    """
    if not _operates_all(principal):
        raise Forbidden("Built-in workers work on every board: this needs an operator of all.")
    return hosts.drain(name, wanted)


def require(principal: Principal, workers: Iterable[Worker]) -> None:
    """Pass if these workers are the principal's to drain. Raises Forbidden."""
    workers = list(workers)
    if len(steered(principal, workers)) < len(workers):
        raise Forbidden(
            "This needs the role operator on every board that the worker works on. "
            "Ask an operator of the installation."
        )


def steered(principal: Principal, workers: Iterable[Worker]) -> set[UUID]:
    """Return which of the workers are the principal's to drain. Two statements at most."""
    workers = list(workers)
    if _operates_all(principal):
        return {worker.pk for worker in workers}
    if Role.OPERATOR not in principal.boards.values():
        return set()
    tokens = {worker.token_id for worker in workers if worker.token_id is not None}
    narrow = set(Token.objects.filter(pk__in=tokens, everywhere=None).values_list("pk", flat=True))
    boards: dict[UUID, list[UUID]] = {}
    for token, board in Membership.objects.filter(token_id__in=narrow).values_list(
        "token_id", "board_id"
    ):
        boards.setdefault(token, []).append(board)
    mine = {
        token
        for token, of in boards.items()
        if all(principal.role_on(board) == Role.OPERATOR for board in of)
    }
    return {worker.pk for worker in workers if worker.token_id in mine}


def _operates_all(principal: Principal) -> bool:
    return principal.everywhere == Role.OPERATOR


def host_of(worker: Worker) -> str | None:
    """Return the host of a built-in worker, None for any other."""
    found = _BUILT_IN.fullmatch(worker.name)
    return found[1] if found and worker.kind == Worker.Kind.BUILT_IN else None


def mark(workers: Iterable[Worker]) -> None:
    """Have ``rests`` say what is so of the workers' hosts, and ``draining`` of built-in ones."""
    workers = list(workers)
    shut = list(hosts.shut()) if any(w.kind != Worker.Kind.AGENT for w in workers) else []
    for worker in workers:
        name = host_of(worker)
        own = {"worker_id": worker.pk} if name is None else {"worker_id": None, "host": name}
        here = [host for host in shut if all(getattr(host, k) == v for k, v in own.items())]
        if name is not None:
            worker.draining = any(host.draining and not host.kind for host in here)
        worker.rests = [host for host in here if not host.draining]


def see_whether_to_claim(name: str, token_id: UUID) -> None:
    """Pass if the worker may begin something. Raises NotClaimable."""
    if Worker.objects.filter(name=name, token_id=token_id, draining=True).exists():
        raise NotClaimable(
            f"The worker {name} is being drained: it gets no card until an operator lets it "
            f"work again, with `holdfast worker undrain {name}` or on the Workers page."
        )
