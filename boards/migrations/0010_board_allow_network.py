from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("boards", "0009_sharing")]

    operations = [
        # Boards that are there keep what they have; new ones begin without.
        migrations.AddField(
            model_name="board",
            name="allow_network",
            field=models.BooleanField(default=True),
        ),
        migrations.AlterField(
            model_name="board",
            name="allow_network",
            field=models.BooleanField(default=False),
        ),
    ]
