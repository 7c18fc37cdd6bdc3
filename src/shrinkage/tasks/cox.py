"""Times until an event, some of them cut off: Cox's proportional hazards."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from shrinkage.checks import is_number
from shrinkage.errors import InputError

from .base import ConvexTask, Sums, Survival, Target
from .log_link import relative_entropy
from .metrics.concordance import Concordance

SAME = 1e-10  # by what share slopes may differ from a multiple of others that they are


@dataclass(frozen=True)
class AtRisk:
    """What each event is compared with, the rows sorted by strata, from the latest time to the earliest; each is [n].

    order: the places of the rows. event: 1 or 0. first, last: the first and the last row of the same stratum, None
    where all rows are one. top: the largest output of it. hazard: e = exp(z − top). end, begin: the last and the first
    row of the same time. share: of the hazards of a time's events, how much is left out of what is at risk for this
    one: 0 under Breslow's rule, under Efron's l/d for the l-th of d events, from 0. risk: what is at risk, Σ e of the
    stratum's rows whose time is no earlier, less what is left out. ties: how many events its time has, less those left
    out, at least 1.
    """

    order: Tensor
    event: Tensor
    first: Tensor | None
    last: Tensor | None
    top: Tensor
    hazard: Tensor
    end: Tensor
    begin: Tensor
    share: Tensor
    risk: Tensor
    ties: Tensor

    def unsorted(self, values: Tensor) -> Tensor:
        """Put values [n, …] back into the order of the rows."""
        return values[self.order.argsort()]

    def later(self, values: Tensor) -> Tensor:
        """Add up values [n, …] over all rows of the stratum whose time is no earlier than each one's."""
        return self.cumulated(values)[self.end]

    def earlier(self, values: Tensor) -> Tensor:
        """Add up values [n, …] over all rows of the stratum whose time is no later than each one's."""
        first = None if self.last is None else len(self.last) - 1 - self.last.flip(0)
        return scan(values.flip(0), first).flip(0)[self.begin]

    def tied(self, values: Tensor) -> Tensor:
        """Add up values [n, …] over the events of each one's time."""
        own = self.event.reshape(-1, *[1] * (values.ndim - 1)) * values
        sums = self.cumulated(own)
        return sums[self.end] - (sums - own)[self.begin]

    def cumulated(self, values: Tensor) -> Tensor:
        """Add up values [n, …] over each row and those of its stratum that are sorted before it."""
        return scan(values, self.first)


def scan(values: Tensor, first: Tensor | None, combine: Callable[[Tensor, Tensor], Tensor] = torch.add) -> Tensor:
    """Combine values [n, …] of each row and of those before it, from row `first` [n] on; None for the very first.

    Sums of strata are never subtracted from one another, since one may be as small as the rounding of another. So many
    rows as have been combined are doubled each time. Reference: Hillis & Steele (1986), "Data parallel algorithms".
    """
    if first is None:
        return values.cumsum(dim=0)
    places, step = torch.arange(len(values), device=values.device), 1
    while step < len(values):
        inside = (places - step >= first).reshape(-1, *[1] * (values.ndim - 1))
        values = torch.where(inside, combine(values, values.roll(step, 0)), values)
        step *= 2
    return values


def ends_of_runs(changes: Tensor) -> tuple[Tensor, Tensor]:
    """Find the first and the last place of the run that each of n places is in; changes [n − 1]: where one ends."""
    always = changes.new_ones(1)
    places = torch.arange(len(changes) + 1, device=changes.device)
    first = torch.where(torch.cat([always, changes]), places, 0).cummax(dim=0).values
    last = torch.where(torch.cat([changes, always]), places, len(changes)).flip(0).cummin(dim=0).values.flip(0)
    return first, last


def at_risk(output: Tensor, target: Tensor, is_efron: bool) -> AtRisk:
    """Find what each event is compared with, from outputs [n, 1] and targets [n, 2 or 3]: times, events, strata."""
    order = target[:, 0].argsort(descending=True, stable=True)
    changes_stratum = first = last = None
    if target.shape[1] > 2:
        order = order[target[order, 2].argsort(stable=True)]
        stratum = target[order, 2]
        changes_stratum = stratum[1:] != stratum[:-1]
        first, last = ends_of_runs(changes_stratum)
    time, event, z = target[order, 0], target[order, 1], output[order, 0]
    changes = time[1:] != time[:-1]
    begin, end = ends_of_runs(changes if changes_stratum is None else changes | changes_stratum)
    top = z.amax().expand_as(z) if last is None else scan(z, first, torch.maximum)[last]
    hazard = (z - top).exp()
    none = torch.zeros_like(hazard)
    found = AtRisk(order, event, first, last, top, hazard, end, begin, none, none, none)
    events, count = event.cumsum(dim=0), found.tied(torch.ones_like(hazard)).clamp(min=1)
    earlier = events - event - (events - event)[begin]  # events of the same time that come before
    share = earlier / count if is_efron else none
    risk = found.later(hazard) - share * found.tied(hazard)
    return AtRisk(order, event, first, last, top, hazard, end, begin, share, risk, count * (1 - share))


class Cox(ConvexTask):
    """Cox regression: the loss of an event is log(Σ e^{zⱼ} of the rows at risk/e^{z}) − log d, and 0 of other rows.

    At risk are the rows of the event's stratum whose time is no earlier (without strata all rows are one), and d is how
    many events there are of this time. The sum over the rows is half the deviance of the partial likelihood, so that no
    output of a row stands for itself: all rows are taken at once, and the same number added to all outputs changes
    nothing. exp of an output is a relative risk, to others of its stratum. λ is that of glmnet's `family="cox"`: the
    mean is over the rows, events or not. A part that validates or tests is scored by the loss of its rows together with
    the training rows less that of these, over its events, as `cv.glmnet` does (`grouped=TRUE`).

    ties: events of one time are at risk for all of each other (`breslow`), or for half of each other on average
    (`efron`; d is then d, d − 1, … 1). times: for which a model to take away tells the probability that no event has
    been seen. References: Cox (1972), "Regression models and life-tables"; Efron (1977), "The
    efficiency of Cox's likelihood function for censored data"; Simon et al. (2011), "Regularization paths for Cox's
    proportional hazards model via coordinate descent".
    """

    outputs = 1
    predicts: ClassVar = "risks"
    standard: ClassVar = (Concordance,)
    curvature = float("inf")
    keeps_units: ClassVar = True
    link: ClassVar = "log"
    is_joint: ClassVar = True

    def __init__(self, ties: Literal["breslow", "efron"] = "breslow", times: Sequence[float] = ()) -> None:
        super().__init__()
        self.is_efron, self.times = ties == "efron", tuple(map(float, times))

    @classmethod
    def for_target(cls, target: Target, ties: str = "breslow", times: Sequence[float] = ()) -> "Cox":
        if ties not in ("breslow", "efron"):
            raise InputError(f"task.ties={ties}: must be breslow or efron; use task.ties=breslow")
        if not target.has_events:
            raise InputError(
                "task=cox: it needs a column that says which times are those of an event; use data.event=COLUMN, with "
                "1 where the event was seen and 0 where the row was seen no longer"
            )
        is_list = isinstance(times, Sequence) and not isinstance(times, str)
        if not is_list or not all(is_number(time) and time > 0 for time in times) or len(set(times)) < len(times):
            raise InputError(
                f"task.times={times}: must be a list of different times above 0, in the units of the target; use "
                "task.times=[12,24]"
            )
        if target.latest is not None and max(times, default=0.0) > target.latest:
            raise InputError(
                f"task.times={times}: no training row was seen longer than until {target.latest:g}, so that nothing "
                f"tells who survives until {max(times):g}; leave it out"
            )
        return cls("efron" if ties == "efron" else "breslow", times)

    def losses(self, output: Tensor, target: Tensor) -> Tensor:
        found = at_risk(output, target, self.is_efron)
        lost = found.risk.log() + found.top - output[found.order, 0] - found.ties.log()
        return found.unsorted(torch.where(found.event > 0, lost, 0.0))

    def sums(self, output: Tensor, target: Tensor, weight: Tensor | None = None) -> Sums:
        return super().sums(output, target, weight) | {"events": target[:, 1].double().sum()}

    def held_out(self, own: Sums, train: Sums, both: Sums) -> Sums:
        return {**own, "loss": both["loss"] - train["loss"], "rows": own["events"]}

    def predictions(self, output: Tensor) -> Tensor:
        return output[:, 0]

    def hazards_at_risk(self, found: AtRisk) -> Tensor:
        """Add up, for each row, its share of what is at risk over the events that it is at risk for, [n]; sorted."""
        rates = torch.where(found.event > 0, 1 / found.risk, 0.0)
        return found.hazard * (found.earlier(rates) - found.event * found.tied(found.share * rates))

    def slope(self, output: Tensor, target: Tensor) -> Tensor:
        found = at_risk(output, target, self.is_efron)
        return found.unsorted(self.hazards_at_risk(found) - found.event)[:, None]

    def curvatures(self, output: Tensor, target: Tensor) -> Tensor:
        """Compute Σ_k p_kj of each row j over the events k: the second derivatives are this less `joint_part`."""
        found = at_risk(output, target, self.is_efron)
        return found.unsorted(self.hazards_at_risk(found))

    def joint_part(self, output: Tensor, target: Tensor, columns: Tensor) -> Tensor:
        found = at_risk(output, target, self.is_efron)
        weighted = found.hazard[:, None] * columns[found.order]
        means = (found.later(weighted) - found.share[:, None] * found.tied(weighted)) / found.risk[:, None]
        return found.unsorted(torch.where(found.event[:, None] > 0, means, 0.0))

    def fenchel_young(self, output: Tensor, target: Tensor, dual: Tensor) -> Tensor:
        """Bound the Fenchel–Young difference of multiples s of the slopes at these outputs, 0 ≤ s ≤ 1; ∞ for others.

        The loss of event k has the slope p_k − 1_k, with p_k the shares of what is at risk. (1 − s)1_k + s·p_k are
        shares as well, and those of all events add up to a slope s times as large: the relative entropies to p_k are no
        less than the difference.
        """
        found, slope = at_risk(output, target, self.is_efron), self.slope(output, target)
        size = slope.square().sum()
        scale = torch.where(size > 0, (dual * slope).sum() / torch.where(size > 0, size, 1.0), 0.0)
        is_multiple = (dual - scale * slope).abs().amax() <= SAME * slope.abs().amax()
        is_multiple = is_multiple & (scale >= 0) & (scale <= 1 + SAME)
        scale = scale.clamp(0, 1)
        own = (1 - found.share) * found.hazard / found.risk
        rest = (1 - own).clamp(min=0)
        apart = relative_entropy(1 - scale * rest, own) + relative_entropy(scale * rest, rest)
        return torch.where(is_multiple, found.unsorted(torch.where(found.event > 0, apart, 0.0)), torch.inf)

    def survival(self, output: Tensor, target: Tensor) -> Survival:
        """Estimate H₀ by Breslow's sum over the events of what one row of output 0 is of those at risk.

        Under Efron's rule for ties each event has its own. Reference: Breslow (1972), in the discussion of Cox (1972).
        """
        found = at_risk(output, target, self.is_efron)
        rates = torch.where(found.event > 0, (-found.top).exp() / found.risk, 0.0)
        height, time, event = found.earlier(rates), target[found.order, 0], found.event > 0
        stratum = target[found.order, 2] if target.shape[1] > 2 else torch.zeros_like(time)
        steps: list[tuple[Tensor, Tensor]] = []
        ends: list[float] = []
        for number in range(int(stratum.max()) + 1):
            own = stratum == number
            at, place = time[own & event].unique(return_inverse=True)
            steps.append((at, torch.zeros_like(at).scatter(0, place, height[own & event])))
            ends.append(float(time[own].max()) if bool(own.any()) else 0.0)
        return Survival(tuple(steps), tuple(ends), self.times)

    def shifts(self, target: Tensor) -> Tensor:
        """Mark the rows of each stratum, whose outputs may all be larger by one number."""
        stratum = target[:, 2] if target.shape[1] > 2 else target.new_zeros(len(target))
        return (stratum[:, None] == stratum.unique()).to(target.dtype)

    def recession(self, target: Tensor) -> Tensor:
        return target.new_zeros(len(target), 0, 1)

    def best_bias(self, output: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Give 0, since no bias is better than another."""
        return torch.zeros_like(output[0])
