from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("boards", "0022_goals_of_notices"),
    ]

    operations = [
        migrations.AlterField(
            model_name="attempt",
            name="status",
            field=models.CharField(
                choices=[
                    ("running", "running"),
                    ("succeeded", "succeeded"),
                    ("failed", "failed"),
                    ("expired", "lease expired"),
                    ("released", "handed over"),
                    ("cancelled", "cancelled"),
                ],
                default="running",
                max_length=16,
            ),
        ),
        migrations.AlterField(
            model_name="card",
            name="state",
            field=models.CharField(
                choices=[
                    ("backlog", "Backlog"),
                    ("waiting", "Waiting"),
                    ("running", "Running"),
                    ("blocked", "Blocked"),
                    ("review", "In review"),
                    ("completed", "Completed"),
                    ("cancelled", "Cancelled"),
                ],
                default="backlog",
                max_length=16,
            ),
        ),
        migrations.AlterField(
            model_name="column",
            name="kind",
            field=models.CharField(
                choices=[
                    ("backlog", "Backlog"),
                    ("in_progress", "In progress"),
                    ("blocked", "Blocked"),
                    ("review", "Review"),
                    ("completed", "Completed"),
                ],
                max_length=16,
            ),
        ),
    ]
