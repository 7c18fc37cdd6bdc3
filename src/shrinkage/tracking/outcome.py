"""What a model to take away does on rows that it was not trained on, as a run keeps it for pictures."""

import json
from dataclasses import asdict, dataclass

Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Series:
    """Points of one kind, under a name: those of rows, or of a line through them."""

    name: str
    points: Points
    line: Points


@dataclass(frozen=True)
class Outcome:
    """Residuals against predictions, of each target a series; or survival over time, of each risk a line.

    name: of the picture's file. title: what is shown. x, y: the names of the sides. level: of a line across, None for
    none.
    """

    name: str
    title: str
    x: str
    y: str
    series: list[Series]
    level: float | None = None

    @property
    def is_of_rows(self) -> bool:
        """Whether it has a point for each row, and not curves alone."""
        return any(each.points for each in self.series)

    def as_json(self) -> str:
        """Write it as JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "Outcome":
        """Read what `as_json` has written."""
        found = json.loads(text)
        return cls(**found | {"series": [Series(**series) for series in found["series"]]})
