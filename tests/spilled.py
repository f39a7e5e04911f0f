"""A card that wrote a secret of its board into a file, made in a site's own process."""

from __future__ import annotations

#: Told the board, a title, and what the card writes into app.py; prints the key of the card, which
#: is in review. The board keeps ``sk-live-0123456789abcdef`` as DEPLOY_KEY.
SPILLED = """
import sys, django
django.setup()
from pathlib import Path
from django.conf import settings
from boards import cards, leases
from boards.models import Board
from boards.secrets import keeping
from checkpoints import recovery
from checkpoints.stores import store_of
from checkpoints.workspaces import Workspace
board = Board.objects.get(key=sys.argv[1])
keeping.put(board.pk, "user:ann", "DEPLOY_KEY", "sk-live-0123456789abcdef")
column = board.columns.get(kind="in_progress")
card = cards.create(board, "user:ann", title=sys.argv[2], column=column, review_required=True)
attempt = leases.claim("ada", card_id=card.pk)
files = Workspace.prepare(Path(settings.WORKSPACES_DIR), store_of(board.pk), card_key=card.key,
                          attempt_number=1)
(files.tree / "app.py").write_text(sys.argv[3])
recovery.save(attempt.pk, {"summary": "Wrote it", "workspace": files.snapshot("it").as_json()})
files.close()
leases.complete(attempt.pk, "Done")
print(card.key)
"""
