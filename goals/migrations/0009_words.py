from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("goals", "0008_memory_with_a_life"),
    ]

    operations = [
        migrations.AlterField(
            model_name="discovery",
            name="kind",
            field=models.CharField(
                choices=[
                    ("failing_test", "failing test"),
                    ("architecture_issue", "architecture issue"),
                    ("new_requirement", "new requirement"),
                    ("dead_end", "dead end"),
                    ("fact", "fact"),
                ],
                max_length=32,
            ),
        ),
        migrations.AlterField(
            model_name="discovery",
            name="severity",
            field=models.CharField(
                choices=[
                    ("low", "low severity"),
                    ("medium", "medium severity"),
                    ("high", "high severity"),
                    ("critical", "critical"),
                ],
                default="medium",
                max_length=16,
            ),
        ),
        migrations.AlterField(
            model_name="discovery",
            name="status",
            field=models.CharField(
                choices=[
                    ("open", "open"),
                    ("proposed", "a card sees to it"),
                    ("revived", "may be worth another try"),
                    ("resolved", "resolved"),
                    ("wont_do", "won't be done"),
                ],
                default="open",
                max_length=16,
            ),
        ),
    ]
