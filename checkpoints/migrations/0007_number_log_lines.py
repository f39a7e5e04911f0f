"""Gives the output that is already there its line numbers."""

from __future__ import annotations

from typing import Any

from django.db import migrations

BATCH = 1000
#: A line that is longer by the end of a piece goes on as the next one.
MAX_LINE_CHARS = 16 * 1024


def number_lines(apps: Any, schema_editor: Any) -> None:
    chunks = apps.get_model("checkpoints", "LogChunk").objects.using(schema_editor.connection.alias)
    update = (
        f"UPDATE {chunks.model._meta.db_table}"  # noqa: S608 — the table's own name
        " SET line = %s, step_line = %s, breaks = %s, open_chars = %s WHERE id = %s"
    )
    rows: list[tuple[int, int, int, int, int]] = []

    def write() -> None:
        if rows:
            with schema_editor.connection.cursor() as cursor:
                cursor.executemany(update, rows)
        rows.clear()

    attempt = None
    for chunk in chunks.order_by("attempt_id", "id").iterator(chunk_size=BATCH):
        if chunk.attempt_id != attempt:
            attempt, line, last, ends = chunk.attempt_id, 1, None, {}
        step_line, open_chars, stream = ends.get(chunk.step_key, (1, 0, ""))
        goes_on = 0 < open_chars < MAX_LINE_CHARS and stream == chunk.stream
        if open_chars and not goes_on:
            step_line, open_chars = step_line + 1, 0
        if last is not None and not (goes_on and last == (chunk.step_key, chunk.stream)):
            line += 1
        breaks = chunk.text.count("\n")
        begins, step_begins = line, step_line
        line, step_line = line + breaks, step_line + breaks
        open_chars = (
            len(chunk.text) - chunk.text.rfind("\n") - 1 if breaks else open_chars + len(chunk.text)
        )
        ends[chunk.step_key] = (step_line, open_chars, chunk.stream)
        last = (chunk.step_key, chunk.stream) if open_chars else None
        rows.append((begins, step_begins, breaks, open_chars, chunk.pk))
        if len(rows) >= BATCH:
            write()
    write()


class Migration(migrations.Migration):
    dependencies = [("checkpoints", "0006_log_lines")]

    operations = [migrations.RunPython(number_lines, migrations.RunPython.noop)]
