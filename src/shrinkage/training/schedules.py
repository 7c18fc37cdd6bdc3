"""The learning rate over a run: each schedule gives the factor on `optimizer.lr` at a step of how many."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from shrinkage.checks import Whole, check
from shrinkage.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Schedule(ABC):
    """A schedule gives the factor on the learning rate at each step of a run.

    warmup: the share of the run, in [0, 1), over which the learning rate first rises in a line from 0.
    """

    warmup: float = 0.0

    def __post_init__(self) -> None:
        if type(self.warmup) not in (int, float) or not 0 <= self.warmup < 1:
            raise InputError(
                f"schedule.warmup={self.warmup}: must be a share of the run, 0 ≤ warmup < 1; "
                "use schedule.warmup=0.1 for its first tenth"
            )

    def __call__(self, step: int, steps: float) -> float:
        """Return the factor at optimiser step `step` = 0, 1, … of a run of `steps`, ∞ for one without an end."""
        rising = self.warmup * steps
        if step < rising:
            return (step + 1) / (rising + 1)
        return self.factor((step - rising) / max(steps - rising, 1))

    @abstractmethod
    def factor(self, progress: float) -> float:
        """Return the factor at a share `progress` of the run after its warm-up."""


@dataclass(frozen=True, kw_only=True)
class Constant(Schedule):
    """η stays as it is."""

    def factor(self, progress: float) -> float:
        return 1.0


@dataclass(frozen=True, kw_only=True)
class Cosine(Schedule):
    """Half a cosine from 1 down to `final`. Loshchilov & Hutter (2017), "SGDR", without restarts."""

    final: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if type(self.final) not in (int, float) or not 0 <= self.final <= 1:
            raise InputError(f"schedule.final={self.final}: must be a factor, 0 ≤ final ≤ 1; use schedule.final=0")

    def factor(self, progress: float) -> float:
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2


@dataclass(frozen=True, kw_only=True)
class Step(Schedule):
    """η is multiplied by `gamma` at each of `drops` equally spaced moments inside the run."""

    gamma: float = 0.1
    drops: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if type(self.gamma) not in (int, float) or not 0 < self.gamma <= 1:
            raise InputError(f"schedule.gamma={self.gamma}: must be a factor, 0 < gamma ≤ 1; use schedule.gamma=0.1")
        check("schedule.drops", self.drops, Whole(1, most=1000), "use schedule.drops=2")

    def factor(self, progress: float) -> float:
        return self.gamma ** min(int(progress * (self.drops + 1)), self.drops)
