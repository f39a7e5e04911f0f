from django.apps import AppConfig


class CheckpointsConfig(AppConfig):
    name = "checkpoints"

    def ready(self) -> None:
        """A card that is taken back from review, or from what is completed, works anew; an answer
        may race one."""
        from boards.placing import answered, reopened
        from checkpoints import lines

        reopened.connect(lines.work_anew, dispatch_uid="checkpoints.lines.work_anew")
        answered.connect(lines.race_if_answered, dispatch_uid="checkpoints.lines.race_if_answered")
