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
        """Lightning's name of the experiment."""
        return "shrinkage"

    @property
    def version(self) -> str:
        """The id of the journal."""
        return self.journal.id

    def log_hyperparams(self, *args: object, **kwargs: object) -> None:
        """Do nothing: the config is recorded as a whole."""
        pass

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Record metrics of a step."""
        self.journal.metrics(metrics, step or 0)
