from django.apps import AppConfig, apps
from django.db.models.signals import post_migrate, pre_migrate


class RuntimeSiteConfig(AppConfig):
    name = "runtime_site"

    def ready(self) -> None:
        """Register the checks, and have what is found by its words kept up by the store."""
        from boards import searched  # noqa: F401
        from checkpoints import searched as of_work  # noqa: F401
        from goals.search import keeping
        from runtime_site import checks  # noqa: F401

        goals = apps.get_app_config("goals")  # one that has models: for others no signal is sent
        pre_migrate.connect(keeping.drop_triggers, sender=goals)
        post_migrate.connect(keeping.make_triggers, sender=goals)
