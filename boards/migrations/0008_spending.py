"""Add up what the attempts so far have used: from now on each one that ends adds itself."""

from typing import Any

from django.db import migrations


def add_up(apps: Any, schema_editor: Any) -> None:
    vendor = schema_editor.connection.vendor
    lasted = (
        "GREATEST(EXTRACT(EPOCH FROM a.finished_at - a.started_at), 0)"
        if vendor == "postgresql"
        else "MAX((julianday(a.finished_at) - julianday(a.started_at)) * 86400.0, 0)"
    )
    schema_editor.execute(
        f"""
        INSERT INTO boards_spending (owner_id, board_id, cost_usd, input_tokens, output_tokens,
            seconds, attempts, follow_ups)
        SELECT CASE o.n WHEN 1 THEN a.card_id WHEN 2 THEN c.goal_id ELSE a.board_id END AS owner,
            a.board_id, SUM(a.cost_usd), SUM(a.input_tokens), SUM(a.output_tokens), SUM({lasted}),
            COUNT(*), SUM(a.follow_ups)
        FROM boards_attempt a
        JOIN boards_card c ON c.id = a.card_id
        CROSS JOIN (SELECT 1 AS n UNION ALL SELECT 2 UNION ALL SELECT 3) o
        WHERE a.status <> 'running' AND (o.n <> 2 OR c.goal_id IS NOT NULL)
        GROUP BY owner, a.board_id, o.n
        """  # noqa: S608 — from the text above alone
    )


class Migration(migrations.Migration):
    dependencies = [
        ("boards", "0007_budgets"),
    ]

    operations = [
        migrations.RunPython(add_up, migrations.RunPython.noop),
    ]
