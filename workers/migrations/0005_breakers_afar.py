import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("workers", "0004_draining_workers"),
    ]

    operations = [
        migrations.AddField(
            model_name="host",
            name="worker",
            field=models.ForeignKey(
                blank=True,
                editable=False,
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="breakers",
                to="workers.worker",
            ),
        ),
        migrations.AddField(
            model_name="host",
            name="probe",
            field=models.UUIDField(blank=True, editable=False, null=True),
        ),
    ]
