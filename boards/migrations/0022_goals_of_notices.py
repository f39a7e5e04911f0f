from django.db import migrations
from django.db.models import OuterRef, Subquery


def name_the_goals(apps, schema_editor):
    """Say of each notice about a goal which one it is: so far only its card told."""
    cards = apps.get_model("boards", "Card").objects.filter(pk=OuterRef("card"))
    about_goals = apps.get_model("boards", "Notice").objects.filter(kind="goal", goal=None)
    about_goals.update(goal=Subquery(cards.values("goal")[:1]))


def drop_those_without_a_card(apps, schema_editor):
    apps.get_model("boards", "Notice").objects.filter(card=None).delete()


class Migration(migrations.Migration):
    dependencies = [("boards", "0021_notices_of_goals")]

    operations = [migrations.RunPython(name_the_goals, drop_those_without_a_card)]
