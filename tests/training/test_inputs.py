"""A model of several inputs, as a dict and as a tuple, is the linear model of all of them side by side."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import config

from shrinkage.data.base import Part
from shrinkage.data.d2l import D2L
from shrinkage.models.linear import Linear
from shrinkage.training.lanes_training import build_lanes
from shrinkage.training.run import build
from shrinkage.training.workshop import Workshop

FIRST = 3  # numbers of the first input


class Apart(D2L):
    """The chapter's problem with its columns in two inputs."""

    def __init__(self, *, form: str, **settings: Any) -> None:
        super().__init__(**settings)
        self.form = form

    def make_parts(self) -> dict[str, Part]:
        def apart(x: Any) -> Any:
            first, second = x[:, :FIRST], x[:, FIRST:]
            return {"first": first, "second": second} if self.form == "dict" else (first, second)

        return {name: Part(apart(part.x), part.y) for name, part in super().make_parts().items()}


class Joined(Linear):
    """The linear model of all inputs."""

    def __init__(self, inputs: Mapping[Any, int], outputs: int, **settings: Any) -> None:
        assert list(inputs) in (["first", "second"], [0, 1])
        super().__init__(sum(inputs.values()), outputs, **settings)
        self.form = dict if "first" in inputs else tuple

    def forward(self, x: Any) -> torch.Tensor:
        assert type(x) is self.form
        return super().forward(torch.cat(list(x.values() if self.form is dict else x), dim=1))


def overrides(form: str | None, *more: str) -> list[str]:
    settings = ["data.num_inputs=8", "lambd=0.1", "trainer.max_epochs=2", "trainer.precision=64-true", *more]
    own = [f"data._target_={__name__}.Apart", f"+data.form={form}", f"model._target_={__name__}.Joined"]
    return settings if form is None else [*settings, *own]


@pytest.mark.parametrize("form", ["dict", "tuple"])
def test_a_run_has_the_same_numbers(form: str, tmp_path: Path) -> None:
    joined, linear = (build(config(*overrides(each)), tmp_path) for each in (form, None))
    joined.run()
    linear.run()
    assert [moment.metrics for moment in joined.module.history] == [m.metrics for m in linear.module.history]
    assert joined.verdict() == "not certified: the objective of Joined is not convex, so nothing certifies an optimum"


@pytest.mark.parametrize(("form", "seeds"), [("tuple", "seed"), ("dict", "data.seed")])  # several orders, data sets
def test_lanes_have_the_numbers_of_runs(form: str, seeds: str, tmp_path: Path) -> None:
    cfgs = [config(*overrides(form, f"{seeds}={seed}", f"lambd={0.1 * (1 + seed)}")) for seed in (0, 1)]
    ended = []
    build_lanes(cfgs, Workshop(cfgs[0]), tmp_path, ended.append).run()
    for cfg, lane in zip(cfgs, sorted(ended, key=lambda lane: lane.index), strict=True):
        alone = build(cfg, tmp_path)
        alone.run()
        for name, value in alone.module.measured.items():
            assert lane.measured[name] == pytest.approx(value, rel=1e-12, abs=1e-14), name
