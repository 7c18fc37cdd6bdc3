"""Lightning's view of a journal."""

from lightning.pytorch.loggers.logger import Logger

from .journal import Journal


class JournalLogger(Logger):
    """Appends metrics to a run's journal; the config is recorded by `fit`, whole."""

    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self.journal = journal

    @property
    def name(self) -> str:
        return "shrinkage"

    @property
    def version(self) -> str:
        return self.journal.id

    def log_hyperparams(self, *args: object, **kwargs: object) -> None:
        pass

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.journal.metrics(metrics, step or 0)
