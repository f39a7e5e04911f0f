import datetime

import django.db.models.deletion
import django.utils.timezone
import kernel.ids
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("goals", "0006_amendments_and_plans"),
    ]

    operations = [
        migrations.CreateModel(
            name="CheckRun",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=kernel.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("queued", "Queued"),
                            ("running", "Running"),
                            ("done", "Done"),
                            ("failed", "Failed"),
                        ],
                        default="queued",
                        max_length=8,
                    ),
                ),
                (
                    "why",
                    models.CharField(
                        choices=[
                            ("asked", "Asked"),
                            ("completed", "Completed"),
                            ("scheduled", "Scheduled"),
                        ],
                        default="asked",
                        max_length=12,
                    ),
                ),
                ("actor", models.CharField(max_length=200)),
                ("card_id", models.UUIDField(null=True)),
                ("commit", models.CharField(blank=True, max_length=64)),
                ("again", models.BooleanField(default=False)),
                ("worker", models.CharField(blank=True, max_length=200)),
                ("taken", models.PositiveIntegerField(default=0)),
                ("lapses", models.PositiveSmallIntegerField(default=0)),
                ("lease_expires_at", models.DateTimeField(null=True)),
                ("error", models.TextField(blank=True)),
                ("said", models.CharField(blank=True, max_length=300)),
                (
                    "created_at",
                    models.DateTimeField(default=django.utils.timezone.now, editable=False),
                ),
                ("ended_at", models.DateTimeField(null=True)),
            ],
        ),
        migrations.CreateModel(
            name="Regression",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=kernel.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("searching", "Searching"),
                            ("found", "Found"),
                            ("listed", "Listed"),
                        ],
                        default="searching",
                        max_length=12,
                    ),
                ),
                ("good", models.CharField(blank=True, max_length=64)),
                ("bad", models.CharField(blank=True, max_length=64)),
                ("suspects", models.JSONField(default=list)),
                ("left_out", models.PositiveIntegerField(default=0)),
                ("low", models.PositiveIntegerField(default=0)),
                ("high", models.PositiveIntegerField(default=0)),
                ("trials", models.JSONField(default=list)),
                ("at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ("ended_at", models.DateTimeField(null=True)),
            ],
        ),
        migrations.AddField(
            model_name="criterion",
            name="by_person",
            field=models.BooleanField(default=False),
        ),
        migrations.AddField(
            model_name="criterion",
            name="changed_at",
            field=models.DateTimeField(
                default=datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC), editable=False
            ),
        ),
        # What there is of evidence goes on counting; what is made from now on is new.
        migrations.AlterField(
            model_name="criterion",
            name="changed_at",
            field=models.DateTimeField(default=django.utils.timezone.now, editable=False),
        ),
        migrations.AddField(
            model_name="criterion",
            name="probe",
            field=models.JSONField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="criterion",
            name="tests",
            field=models.CharField(blank=True, max_length=1000),
        ),
        migrations.AddField(
            model_name="evidence",
            name="checkpoint",
            field=models.PositiveIntegerField(null=True),
        ),
        migrations.AddField(
            model_name="evidence",
            name="commit",
            field=models.CharField(blank=True, max_length=64),
        ),
        migrations.AddField(
            model_name="evidence",
            name="confirmed_at",
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name="evidence",
            name="step",
            field=models.CharField(blank=True, max_length=200),
        ),
        migrations.AddField(
            model_name="goal",
            name="achieves_itself",
            field=models.BooleanField(default=False),
        ),
        migrations.AddField(
            model_name="goal",
            name="check_due_at",
            field=models.DateTimeField(blank=True, editable=False, null=True),
        ),
        migrations.AddField(
            model_name="goal",
            name="check_every_seconds",
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="goal",
            name="evidence_required",
            field=models.BooleanField(default=False),
        ),
        migrations.AddField(
            model_name="goal",
            name="met_at",
            field=models.DateTimeField(blank=True, editable=False, null=True),
        ),
        migrations.AddIndex(
            model_name="goal",
            index=models.Index(
                condition=models.Q(("check_due_at__isnull", False)),
                fields=["check_due_at"],
                name="goal_check_due",
            ),
        ),
        migrations.AddConstraint(
            model_name="goal",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("check_every_seconds", None), ("check_every_seconds__gte", 60), _connector="OR"
                ),
                name="goal_checked_each_minute_at_most",
            ),
        ),
        migrations.AddField(
            model_name="checkrun",
            name="goal",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE,
                related_name="check_runs",
                to="goals.goal",
            ),
        ),
        migrations.AddField(
            model_name="evidence",
            name="check_run",
            field=models.ForeignKey(
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="evidence",
                to="goals.checkrun",
            ),
        ),
        migrations.AddConstraint(
            model_name="evidence",
            constraint=models.UniqueConstraint(
                condition=models.Q(("check_run__isnull", False)),
                fields=("check_run", "criterion"),
                name="evidence_once_per_run",
            ),
        ),
        migrations.AddField(
            model_name="regression",
            name="check_run",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE,
                related_name="regressions",
                to="goals.checkrun",
            ),
        ),
        migrations.AddField(
            model_name="regression",
            name="criterion",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE,
                related_name="regressions",
                to="goals.criterion",
            ),
        ),
        migrations.AddIndex(
            model_name="checkrun",
            index=models.Index(
                condition=models.Q(("status__in", ["queued", "running"])),
                fields=["created_at"],
                name="live_check_run",
            ),
        ),
        migrations.AddConstraint(
            model_name="checkrun",
            constraint=models.UniqueConstraint(
                condition=models.Q(("status__in", ["queued", "running"])),
                fields=("goal",),
                name="one_live_check_run_per_goal",
            ),
        ),
        migrations.AddConstraint(
            model_name="checkrun",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("ended_at", None), ("status__in", ["queued", "running"])),
                    models.Q(("ended_at__isnull", False), ("status__in", ["done", "failed"])),
                    _connector="OR",
                ),
                name="check_run_ended_iff_dated",
            ),
        ),
    ]
