from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    """Criteria know in the place of which one they came."""

    dependencies = [
        ("goals", "0009_words"),
    ]

    operations = [
        migrations.AddField(
            model_name="criterion",
            name="replaces",
            field=models.PositiveSmallIntegerField(blank=True, null=True),
        ),
    ]
