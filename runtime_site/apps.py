from django.apps import AppConfig


class RuntimeSiteConfig(AppConfig):
    name = "runtime_site"

    def ready(self) -> None:
        from runtime_site import checks  # noqa: F401  registers the checks
