import django.db.models.deletion
from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies = [
        ("boards", "0020_secret_questions"),
        ("goals", "0008_memory_with_a_life"),
    ]

    operations = [
        migrations.AddField(
            model_name="notice",
            name="goal",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="+",
                to="goals.goal",
            ),
        ),
        migrations.AlterField(
            model_name="notice",
            name="card",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="notices",
                to="boards.card",
            ),
        ),
        migrations.AddConstraint(
            model_name="notice",
            constraint=models.CheckConstraint(
                condition=Q(card__isnull=False) | Q(kind="goal", goal__isnull=False),
                name="notice_about_something",
            ),
        ),
    ]
