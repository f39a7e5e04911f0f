from django.apps import AppConfig


class WorkersConfig(AppConfig):
    name = "workers"

    def ready(self) -> None:
        """Let workflows have every kind of step that an executor here carries out, and pauses."""
        from boards import workflows
        from workers import executors, pauses

        for kind, read in pauses.KINDS.items():
            workflows.register(kind, read)
        for kind, executor in executors.known().items():
            workflows.register(kind, executor.read)
