"""The choice of λ: against a slow computation, known curves, and equals that must not beat one another."""

import itertools
import math
import random
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from shrinkage.errors import InputError
from shrinkage.report.choice import choose
from shrinkage.report.comparison import interval_of
from shrinkage.report.edges import next_grid
from shrinkage.report.rounding import SAME, deviation, mean
from shrinkage.report.terminal import show
from shrinkage.tracking.source import COLOUR

LAMBDAS = (0.01, 0.03, 0.1, 0.3, 1.0)


def run(penalty: str, lambd: float, fold: int, loss: float, *, seed: int = 0, folds: int = 5, **params: object) -> dict:
    """A finished run on one of the folds of diabetes, as a sweep's report has it."""
    own = {"penalty": penalty, "penalty.mode": {"l1": "prox"}.get(penalty, "loss"), "lambd": str(lambd)}
    data = {"data": "diabetes", "data.folds": str(folds), "data.fold": str(fold), "data.repeat": "0", "data.seed": "0"}
    return {
        "name": f"{penalty} λ={lambd:g} seed={seed} data.fold={fold}",
        "status": "FINISHED",
        "run_id": None,
        "folder": None,
        "params": own | data | {"seed": str(seed)} | {key: str(value) for key, value in params.items()},
        "metrics": {
            "lambd": lambd,
            "val/loss": loss,
            "val/r2": 1 - loss,
            "train/loss": loss / 2,
            "train/objective": loss,
            "weight/l1": 1 / (1 + lambd),
            "weight/l2": 1 / (1 + lambd),
            "weight/zeros": 0.0,
            "optimum/gap": 1e-9,
        },
        "tags": {"data.digest": "0123456789abcdef", "data.rows.train": "283", "data.rows.val": "71"},
        "error": None,
    }


def curve(penalty: str, best: float, lambdas: tuple = LAMBDAS, folds: int = 5, **more: object) -> list[dict]:
    """Runs whose mean loss is a parabola of log λ around the best one; the folds differ by as much at every λ."""
    return [
        run(penalty, lambd, fold, 0.3 + 0.05 * math.log10(lambd / best) ** 2 + 0.01 * fold, **more)
        for lambd in lambdas
        for fold in range(folds)
    ]


def measured(found: list[dict], **metrics: float) -> list[dict]:
    return [one | {"metrics": one["metrics"] | metrics} for one in found]


def slowly(runs: list[dict], larger: bool, metric: str) -> tuple[float, float, float, float]:
    """λ.min, λ.1se and the mean and standard error at λ.min, by loops over one setting's runs, in exact fractions."""
    means, squares = {}, {}
    for lambd in {one["metrics"]["lambd"] for one in runs}:
        folds = []
        for fold in {one["params"]["data.fold"] for one in runs}:
            here = [one for one in runs if one["metrics"]["lambd"] == lambd and one["params"]["data.fold"] == fold]
            folds.append(sum(Fraction(one["metrics"][metric]) for one in here) / len(here))
        means[lambd] = sum(folds) / len(folds)
        squares[lambd] = sum((x - means[lambd]) ** 2 for x in folds) / (len(folds) - 1) / len(folds)
    sign = -1 if larger else 1
    best = max(lambd for lambd in means if sign * means[lambd] == min(sign * mean for mean in means.values()))
    within = [lambd for lambd in means if (means[lambd] - means[best]) ** 2 <= squares[best]]
    return best, max(within), float(means[best]), math.sqrt(squares[best])


# Eighths, so that sums are exact and ties happen.
losses = st.lists(st.integers(1, 24).map(lambda n: n / 8), min_size=24, max_size=24)


@settings(max_examples=25, deadline=None)
@given(losses, st.booleans(), st.randoms())
def test_it_agrees_with_a_slow_computation_in_any_order(
    values: list[float], larger: bool, order: random.Random
) -> None:
    cells = [(lambd, fold, seed) for lambd in (0.0, 0.1, 1.0, 10.0) for fold in (0, 1, 2) for seed in (0, 1)]
    runs = [run("l2", at, fold, loss, seed=seed) for (at, fold, seed), loss in zip(cells, values, strict=True)]
    metric = "val/r2" if larger else "val/loss"
    expected = slowly(runs, larger, metric)
    order.shuffle(runs)
    answer = choose(runs, metric)
    winner = answer.winner
    assert (winner.min, winner.one_se) == expected[:2]
    assert (winner.mean, winner.error) == pytest.approx(expected[2:], abs=1e-12)
    assert winner.one_se >= winner.min
    assert {one["name"] for one in winner.runs_at(winner.min)} == {
        one["name"] for one in runs if one["metrics"]["lambd"] == winner.min
    }


@settings(max_examples=10, deadline=None)
@given(losses, st.randoms())
def test_the_order_of_the_runs_does_not_matter(values: list[float], order: random.Random) -> None:
    cells = [(penalty, lambd, fold) for penalty in ("l1", "l2") for lambd in (0.1, 1.0, 10.0) for fold in range(4)]
    runs = [run(*cell, loss) for cell, loss in zip(cells, values, strict=True)]
    answer = choose(runs)
    order.shuffle(runs)
    again = choose(runs)
    assert again.as_json() == answer.as_json() and again.table.equals(answer.table)


numbers = st.integers(-(10**9), 10**9).map(lambda n: n / 1000)


@settings(max_examples=100, deadline=None)
@given(st.lists(numbers, min_size=2, max_size=20), st.randoms())
def test_means_and_deviations_are_exact_in_any_order(values: list[float], order: random.Random) -> None:
    exact = sum(map(Fraction, values)) / len(values)
    square = sum((Fraction(value) - exact) ** 2 for value in values) / (len(values) - 1)
    assert mean(values) == pytest.approx(float(exact), rel=4e-16, abs=0)
    assert deviation(values) == pytest.approx(math.sqrt(square), rel=1e-9, abs=1e-15 * max(map(abs, values)))
    shuffled = order.sample(values, len(values))
    assert (mean(shuffled), deviation(shuffled)) == (mean(values), deviation(values))
    assert (mean(values[:1] * len(values)), deviation(values[:1] * len(values))) == (values[0], 0.0)


def test_a_deviation_neither_overflows_nor_vanishes() -> None:
    assert deviation([1e299, -1e299]) == pytest.approx(math.sqrt(2) * 1e299)
    assert deviation([1e-200, -1e-200]) == pytest.approx(math.sqrt(2) * 1e-200)


def test_equal_values_in_another_order_of_folds_are_a_tie() -> None:
    """0.1 + 0.2 + 0.3 is not 0.3 + 0.2 + 0.1 in floating-point numbers; of equals the largest λ is taken."""
    for folds in itertools.permutations((0.1, 0.2, 0.3)):
        runs = [run("l2", lambd, fold, folds[fold], folds=3) for lambd in (0.1, 1.0) for fold in range(3)]
        runs += [
            run("l2", 10.0, fold, 0.1 * (fold + 1), folds=3) for fold in range(3)
        ]  # the last is 0.30000000000000004
        runs += [run("l2", 100.0, fold, 0.5, folds=3) for fold in range(3)]
        answer = choose(runs)
        assert (answer.winner.min, answer.winner.one_se) == (10.0, 10.0), folds


tenths = st.lists(st.integers(1, 9).map(lambda n: n / 10), min_size=12, max_size=12)


@settings(max_examples=15, deadline=None)
@given(tenths, st.booleans(), st.randoms())
def test_no_order_of_folds_seeds_or_runs_changes_the_answer(
    values: list[float], larger: bool, order: random.Random
) -> None:
    """Each λ's folds are permuted apart from the others', and so are the seeds of each fold; the first and last λ tie.

    Nothing of answer.json changes, but for the comparison of settings, which is by folds.
    """
    lambdas, folds, seeds = (0.1, 1.0, 10.0), range(3), range(2)
    table = dict(zip(itertools.product(lambdas[:2], folds, seeds), values, strict=True))
    table |= {(10.0, fold, seed): table[0.1, fold, seed] for fold in folds for seed in seeds}

    def answered() -> dict:
        runs = []
        for lambd in lambdas:
            new = order.sample(folds, 3)
            for fold in folds:
                swap = order.random() < 0.5
                for seed in seeds:
                    value = table[lambd, new[fold], seed ^ swap]
                    one = run("l2", lambd, fold, value, seed=seed, folds=3)
                    one["metrics"] |= {"val/r2": value, "weight/zeros": value}
                    runs.append(one)
        order.shuffle(runs)
        return choose(runs, "val/r2" if larger else "val/loss").as_json()

    first = answered()
    assert first["lambd.min"] != 0.1
    assert all(answered() == first for _ in range(4))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0.001, 1000), min_size=4, max_size=4), st.integers(0, 3), st.randoms())
def test_settings_that_only_rounding_tells_apart_are_equal(
    values: list[float], ulps: int, order: random.Random
) -> None:
    runs = []
    for penalty in ("l1", "l2"):
        for lambd, factor in ((0.1, 1.0), (1.0, 2.0)):
            for fold, value in enumerate(values):
                noise = 1 + order.choice((-1, 1)) * ulps * SAME / 16
                runs.append(run(penalty, lambd, fold, factor * value * noise, folds=4))
    answer = choose(runs)
    assert answer.winner.label == "penalty=l1"
    (comparison,) = answer.comparisons
    assert (comparison.difference, comparison.half_width, comparison.beats) == (0.0, 0.0, False)


@pytest.mark.parametrize("metric", ["val/loss", "val/r2"])
def test_one_value_at_all_strengths(metric: str) -> None:
    """But for float32's rounding: the largest λ is taken, and no larger one is proposed."""
    runs = [
        run("l2", lambd, fold, 0.3 * (1 + 1e-7 * place)) for place, lambd in enumerate(LAMBDAS) for fold in range(5)
    ]
    answer = choose(runs, metric)
    assert (answer.winner.min, answer.winner.one_se, answer.winner.edge) == (1.0, 1.0, None)
    assert any("no difference to this metric" in note for note in answer.notes) and answer.warnings == ()


def test_r2_near_zero_has_the_rounding_of_one() -> None:
    runs = [run("l2", at, fold, 1 - r2) for at, r2 in ((0.1, 2e-7), (1.0, 0.0), (10.0, -0.5)) for fold in range(3)]
    assert choose(runs, "val/r2").winner.min == 1.0


def test_infinite_values_are_left_out_in_any_order() -> None:
    runs = curve("l2", 0.1)
    for one in runs[:3]:
        one["metrics"]["val/loss"] = math.inf
    answers = [choose(random.Random(seed).sample(runs, len(runs))).as_json() for seed in range(5)]
    assert all(answer == answers[0] for answer in answers) and len(answers[0]["left_out"]) == 5


def test_the_sentence_and_the_json() -> None:
    answer = choose(curve("l1", 0.1) + curve("l2", 0.3))
    # Both have their best on the grid with the same mean: the first by name wins, and the difference is nothing.
    assert answer.winner.label == "penalty=l1" and answer.winner.min == 0.1
    assert answer.winner.one_se == 0.1 and answer.winner.splits == 5
    assert answer.sentence == (
        "Take penalty=l1 with λ = 0.1, which is both λ.min and λ.1se (val/loss 0.3200 ± 0.0071 over 5 folds); "
        "these 5 folds show no difference from l2."
    )
    told = answer.as_json()
    assert told["lambd.min"] == told["lambd.1se"] == 0.1 and told["winner"] == "penalty=l1"
    assert [each["lambd.min"] for each in told["settings"]] == [0.1, 0.3]
    assert told["runs"] == 50 and told["left_out"] == [] and told["warnings"] == []


def test_several_seeds_are_averaged_within_a_fold_first() -> None:
    """Two seeds that agree are no more evidence than one."""
    once = curve("l2", 0.1)
    both = once + curve("l2", 0.1, seed=1)
    assert choose(both).winner.error == pytest.approx(choose(once).winner.error, rel=1e-12)


def test_one_split_with_seeds_shows_training_noise_and_without_them_nothing() -> None:
    seeds = [run("l2", at, 0, 0.3 + at + 0.01 * seed, seed=seed, folds=1) for at in LAMBDAS for seed in (0, 1, 2)]
    answer = choose(seeds)
    assert answer.winner.error == pytest.approx(0.01 / math.sqrt(3)) and answer.winner.one_se is not None
    assert any("noise of training only" in note for note in answer.about_error)
    alone = choose([one for one in seeds if one["params"]["seed"] == "0"])
    assert alone.winner.one_se is None and math.isnan(alone.winner.error)
    assert any("data.folds=5 'data.fold=range(5)'" in note for note in alone.about_error)
    assert alone.as_json()["settings"][0]["error"] is None and alone.as_json()["lambd.1se"] is None


def test_the_settings_are_told_apart_by_what_was_chosen_and_not_by_what_follows() -> None:
    runs = curve("l1", 0.1, **{"optimizer": "sgd"}) + curve("adamw", 0.1, **{"optimizer": "adam"})
    runs += curve("elastic_net", 0.1, **{"optimizer": "sgd", "penalty.l1_ratio": 0.5})
    assert {each.label for each in choose(runs).settings} == {"penalty=l1", "penalty=adamw", "penalty=elastic_net"}
    runs += curve("elastic_net", 0.1, **{"optimizer": "sgd", "penalty.l1_ratio": 0.9})
    found = {each.label: each for each in choose(runs).settings}
    assert set(found) == {
        "penalty=l1",
        "penalty=adamw",
        "penalty=elastic_net penalty.l1_ratio=0.5",
        "penalty=elastic_net penalty.l1_ratio=0.9",
    }
    assert found["penalty=elastic_net penalty.l1_ratio=0.9"].name == "elastic_net l1_ratio=0.9"


def test_another_number_of_the_penalty_is_chosen_at_one_strength() -> None:
    runs = [
        run("elastic_net", 0.1, fold, 0.3 + (ratio - 0.5) ** 2 + 0.01 * fold, **{"penalty.l1_ratio": ratio})
        for ratio in (0.1, 0.5, 0.9)
        for fold in range(5)
    ]
    answer = choose(runs)
    assert (answer.axis, answer.winner.min, answer.winner.one_se) == ("penalty.l1_ratio", 0.5, None)
    assert answer.as_json()["penalty.l1_ratio.min"] == 0.5 and "penalty.l1_ratio = 0.5" in answer.sentence


def test_none_beside_others_needs_no_second_strength() -> None:
    runs = curve("l2", 0.1) + [run("none", 0.0, fold, 0.5 + 0.01 * fold) for fold in range(5)]
    answer = choose(runs)
    assert [(each.name, each.values) for each in answer.settings] == [("l2", 5), ("none", 1)]
    assert answer.comparisons[0].sentence == "l2 beats none by 0.2 ± 0 (val/loss)"


def test_a_clear_difference_is_one_and_a_small_one_is_not() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.01, 5)
    for gain, beats in ((0.1, True), (0.005, False)):
        worse = [
            one | {"metrics": one["metrics"] | {"val/loss": one["metrics"]["val/loss"] + gain + noise[number % 5]}}
            for number, one in enumerate(curve("l2", 0.1))
        ]
        (comparison,) = choose(curve("l1", 0.1) + worse).comparisons
        differences = gain + noise
        half = stats.t.ppf(0.975, 4) * math.sqrt(differences.var(ddof=1) * (1 / 5 + 71 / 283))
        assert comparison.half_width == pytest.approx(half, rel=1e-9) and comparison.beats is beats
        assert ("beats" in comparison.sentence) is beats


def test_splits_that_are_drawn_anew_are_independent() -> None:
    rng = np.random.default_rng(1)
    runs = [
        run(penalty, lambd, 0, loss + rng.normal(0, 0.01))
        | {"params": {"data": "d2l", "data.seed": str(seed), "penalty": penalty, "lambd": str(lambd), "seed": "0"}}
        | {"tags": {"data.digest": f"draw {seed}"}}
        for penalty, loss in (("l1", 0.3), ("l2", 0.4))
        for lambd in (0.1, 1.0)
        for seed in range(6)
    ]
    answer = choose(runs)
    (comparison,) = answer.comparisons
    at_best = [
        {one["params"]["data.seed"]: one["metrics"]["val/loss"] for one in each.runs_at(each.min)}
        for each in answer.settings
    ]
    differences = np.array([at_best[1][seed] - at_best[0][seed] for seed in at_best[0]])
    assert comparison.half_width == pytest.approx(stats.t.ppf(0.975, 5) * math.sqrt(differences.var(ddof=1) / 6))


def test_equals_rarely_beat_one_another() -> None:
    """Two ridge regressions on feature sets that are exchangeable: neither is better, whatever the folds show.

    5 folds × 5 repeats, each at its own best λ. The nominal 5 % holds to within 7 %; pairing 25 folds as if they were
    independent finds a difference more than 30 % of the time.
    """
    rng, n, p, folds, repeats, experiments = np.random.default_rng(0), 100, 3, 5, 5, 1000
    lambdas = np.geomspace(1e-3, 10, 9)
    corrected = naive = 0
    for _ in range(experiments):
        x = rng.normal(size=(n, 2 * p))
        y = x.sum(axis=1) / math.sqrt(2 * p) + rng.normal(size=n)
        val = np.concatenate([rng.permutation(n).reshape(folds, -1) for _ in range(repeats)])  # [J, n/folds]
        train = np.ones((len(val), n))
        np.put_along_axis(train, val, 0.0, axis=1)
        scores = []
        for half in (x[:, :p], x[:, p:]):
            rows = n - n // folds
            outer = (half[:, :, None] * half[:, None, :]).reshape(n, -1)
            values, vectors = np.linalg.eigh((train @ outer).reshape(-1, p, p) / rows)
            slope = np.einsum("jpq,jp->jq", vectors, train @ (half * y[:, None]) / rows)
            w = np.einsum("jpq,jlq->jlp", vectors, slope[:, None] / (values[:, None] + lambdas[:, None]))
            residual = np.einsum("jvp,jlp->jlv", half[val], w) - y[val][:, None]
            losses = (residual**2).mean(axis=-1) / 2  # [J, λ]
            scores.append(losses[:, losses.mean(axis=0).argmin()])
        differences = scores[0] - scores[1]
        mean, half_width = interval_of(differences, overlap=1 / (folds - 1))
        corrected += abs(mean) > half_width
        naive += abs(mean) > interval_of(differences, overlap=0.0)[1]
    assert corrected / experiments <= 0.07
    assert naive / experiments > 0.30


def loss_at(lambd: float, best: float) -> float:
    """A validation curve with its minimum at the best λ."""
    return 0.3 + 0.1 * (math.log10((lambd + 1e-12) / best) / 3) ** 2


def tried(lambdas: list[float], best: float) -> list[dict]:
    return [run("l2", lambd, fold, loss_at(lambd, best) + 0.01 * fold) for lambd in lambdas for fold in range(5)]


@pytest.mark.parametrize(("best", "proposals"), [(1e-4, 1), (0.003, 1), (30.0, 1), (150.0, 1), (1e-7, 2), (1e4, 2)])
@pytest.mark.parametrize("grid", [[0.01, 0.1, 1.0], [0.05, 0.1, 0.2]])
def test_the_proposed_grid_has_the_best_inside(best: float, proposals: int, grid: list[float]) -> None:
    answer = choose(tried(grid, best))
    for _ in range(proposals):
        assert answer.winner.edge == ("upper" if best > 1 else "lower")
        (warning,) = [words for words in answer.warnings if "penalty=l2 hydra/sweeper=path" in words]
        typed = dict(word.partition("=")[::2] for word in warning.split() if word.startswith("hydra.sweeper."))
        largest, ratio, num = (float(typed[f"hydra.sweeper.{key}"]) for key in ("max", "ratio", "num"))
        proposed = [largest * ratio ** (k / (num - 1)) for k in range(int(num))]
        assert proposed[-1] < answer.winner.min < proposed[0]  # what was the best so far is inside too
        answer = choose(tried(proposed, best))
    assert answer.winner.edge is None
    assert abs(math.log10(answer.winner.min / best)) <= 0.11  # half a step of a fifth of a decade


def test_at_zero_a_flat_curve_is_a_finding_and_a_steep_one_an_edge() -> None:
    def at(losses: dict[float, float]) -> list[dict]:
        return [run("l2", lambd, fold, loss + 0.001 * fold) for lambd, loss in losses.items() for fold in range(5)]

    flat = choose(at({0.0: 0.3, 1e-4: 0.3001, 0.1: 0.31, 1.0: 0.4}))
    assert flat.winner.edge is None and any("no penalty is as good as any" in note for note in flat.notes)
    steep = choose(at({0.0: 0.3, 1.0: 0.4, 3.0: 0.5}))
    assert steep.winner.edge == "lower" and "hydra.sweeper.zero=true" in steep.warnings[0]


def test_where_no_feature_helps_no_larger_strength_is_proposed() -> None:
    runs = [one for lambd in LAMBDAS for one in measured(
        [run("l1", lambd, fold, 0.5 - 0.01 * lambd + 0.001 * fold) for fold in range(5)],
        **{"weight/zeros": min(1.0, 0.5 + lambd)})]  # fmt: skip
    answer = choose(runs)
    assert answer.winner.min == 1.0 and answer.winner.edge is None and answer.warnings == ()
    assert any("no feature helps" in note for note in answer.notes)


def noise_under_l1(lambda_max: float, *, tagged: bool) -> list[dict]:
    """A path over coin flips: the best at its top, where two of forty weights are left on one fold of five."""
    runs = []
    for lambd in (0.01 * lambda_max, 0.1 * lambda_max, lambda_max):
        for fold in range(5):
            zeros = (0.0, 0.5, 1.0 if fold else 0.95)[len(runs) // 5]
            loss = 0.7 + 0.01 * math.log10(lambda_max / lambd) + 0.001 * fold
            one = measured([run("l1", lambd, fold, loss)], **{"weight/zeros": zeros, "optimum/lambda_max": 0.09})
            runs += one
            if tagged and lambd == lambda_max:
                one[0]["tags"] = one[0]["tags"] | {"path.lambda_max": repr(lambda_max)}
    return runs


def test_noise_is_no_reason_to_go_beyond_lambda_max() -> None:
    answer = choose(noise_under_l1(0.08, tagged=True))
    assert answer.sentence == (
        "No feature helps here: the model is a constant (its val/loss 0.70200 ± 0.00071 over 5 folds), under "
        "penalty=l1 with λ = 0.08, which is both λ.min and λ.1se."
    )
    assert answer.warnings == () and answer.winner.edge is None
    assert any("λ_max differs by split, and there 0.01 of the weights were left" in note for note in answer.notes)
    told = answer.as_json()["settings"][0]
    assert told["constant"] and told["constant_1se"] and told["zeros"] == 0.99


def test_a_grid_by_hand_is_led_up_to_lambda_max_and_no_further() -> None:
    """Every split's λ_max is known from its runs, though no path began there."""
    answer = choose(noise_under_l1(0.08, tagged=False))
    assert answer.winner.edge == "upper" and "hydra.sweeper.max=0.0904" in answer.warnings[0]
    assert "but λ.min is the largest tried" in answer.sentence
    beyond = choose(noise_under_l1(0.09, tagged=False))
    assert beyond.winner.edge is None and beyond.warnings == ()


@pytest.mark.parametrize(
    ("zeros", "words"),
    [(1.0, "No feature helps here: the model is a constant"), (0.9, ": the refitted model keeps 10 % of the weights")],
)
def test_the_weights_are_those_of_the_refit_where_there_is_one(zeros: float, words: str) -> None:
    runs = noise_under_l1(0.08, tagged=True)
    (refit,) = measured([run("l1", 0.08, 0, 0.7)], **{"weight/zeros": zeros})
    del refit["metrics"]["val/loss"]
    refit["params"] = refit["params"] | {"data.refit": "True", "export": "noise"}
    other = refit | {"params": refit["params"] | {"data.folds": "7"}, "metrics": {"weight/zeros": 0.25}}
    for found in ([refit, other, *runs], [other, *runs, refit]):
        answer = choose(found)
        assert words in answer.sentence and answer.runs == 15 and answer.left_out == ()
        assert answer.as_json()["refit"] == {"lambd": 0.08, "zeros": zeros}
    assert choose([other, *runs]).as_json()["refit"] is None


def ridge_on_noise(largest: float, gain: float) -> list[dict]:
    """‖w‖₂ = 1/(1 + λ), as of one column of unit length, and a loss that falls by `gain` as the weight goes."""
    runs = []
    for lambd in (0.01 * largest, 0.1 * largest, largest):
        size = 1 / (1 + lambd)
        for fold in range(5):
            runs += measured([run("l2", lambd, fold, 0.7 + gain * size + 0.001 * fold)], **{"weight/l2": size})
    return runs


def test_weights_that_only_shrink_need_no_larger_strength() -> None:
    """L2 has no λ_max: at the top of its path the weights are nearly nothing, and a constant would be as good."""
    answer = choose(ridge_on_noise(100.0, 0.4))
    assert answer.sentence.startswith(
        "No feature helps here by more than the error: the model is next to a constant (its val/loss 0.70596 ± 0.00071"
    )
    assert answer.winner.vanishing and answer.winner.edge is None and answer.warnings == ()
    assert any("‖w‖₂ is 0.009901" in note for note in answer.notes)


@pytest.mark.parametrize(("largest", "gain"), [(1.0, 0.1), (100.0, 40.0)])
def test_weights_that_have_something_left_to_lose_are_an_edge(largest: float, gain: float) -> None:
    """Where a larger λ still changes the direction, or the loss by more than its error."""
    answer = choose(ridge_on_noise(largest, gain))
    assert answer.winner.edge == "upper" and not answer.winner.vanishing and "hydra.sweeper.max=" in answer.warnings[0]


def test_strength_that_makes_no_difference_has_no_edge() -> None:
    answer = choose([run("none", lambd, fold, 0.3 + 0.01 * fold) for lambd in LAMBDAS for fold in range(5)])
    assert answer.winner.edge is None and any("no difference to this metric" in note for note in answer.notes)


def test_runs_that_stopped_early_and_those_without_a_certificate_are_counted() -> None:
    runs = curve("l2", 0.1)
    runs[0]["metrics"]["optimum/gap"] = 0.02
    del runs[1]["metrics"]["optimum/gap"]
    answer = choose(runs)
    assert any("1 of 25 runs stopped more than 1 % above" in words for words in answer.warnings)
    assert any("1 of 25 runs are not certified" in note for note in answer.about_error)
    assert answer.table["above"].max() == pytest.approx(0.02 / (runs[0]["metrics"]["train/objective"] - 0.02))


def test_failed_children_are_named_and_their_strength_is_left_out() -> None:
    runs = curve("l2", 0.1)
    lost = next(one for one in runs if one["metrics"]["lambd"] == 0.1 and one["params"]["data.fold"] == "3")
    diverged = next(one for one in runs if one["metrics"]["lambd"] == 1.0)
    lost |= {"status": "FAILED", "metrics": {}, "error": "no"}
    diverged["metrics"]["val/loss"] = math.inf
    answer = choose(runs)
    assert answer.winner.min in (0.03, 0.3) and answer.winner.values == 3 and answer.runs == 15
    assert len(answer.left_out) == 10 and {lost["name"], diverged["name"]} <= set(answer.left_out)
    assert f"left out 2 of 25 runs: 1 FAILED ({lost['name']}); 1 of infinite val/loss" in answer.warnings[0]
    assert "penalty=l2 λ=0.1 (has 4 of 5)" in answer.warnings[1]


def test_a_split_that_one_value_alone_was_tried_on_leaves_the_others_in() -> None:
    answer = choose([*curve("l2", 0.1, folds=4), run("l2", 0.1, 4, 0.3, folds=5)])
    assert answer.winner.values == 5 and answer.winner.splits == 4 and answer.runs == 20
    assert any("4 of 5 folds are there" in note for note in answer.about_error)


def edited(change: Callable[[dict], None]) -> list[dict]:
    runs = curve("l2", 0.1)
    change(runs[3])
    return runs


@pytest.mark.parametrize(
    ("runs", "metric", "words"),
    [
        (curve("l2", 0.1, (0.1,)), "val/loss", "one λ, 0.1: nothing to choose (val/loss 0.3200 ± 0.0071, 5 runs)"),
        (curve("l2", 0.1), "val/accuracy", "val/accuracy: no run has this metric; there are lambd, optimum/gap, train"),
        ([one | {"status": "FAILED"} for one in curve("l2", 0.1)], "val/loss", "no run has FINISHED (25 FAILED)"),
        ([], "val/loss", "no run has FINISHED (there are none)"),
        (
            curve("l2", 0.1, **{"data.refit": True}),
            "val/loss",
            "there is no validation part to choose by; leave data.refit",
        ),
        (
            edited(lambda one: one["params"].update(data="digits")),
            "val/loss",
            "data is diabetes in 24 runs, digits in 1",
        ),
        (edited(lambda one: one["params"].update({"data.standardize": "False"})), "val/loss", "data.standardize is"),
        (edited(lambda one: one["tags"].update({"data.digest": "f" * 16})), "val/loss", "data.digest is 0123"),
        (measured(curve("l2", 0.1), **{"val/loss": math.nan}), "val/loss", "val/loss is infinite in every run"),
    ],
)
def test_bad_input(runs: list[dict], metric: str, words: str) -> None:
    with pytest.raises(InputError) as refused:
        choose(runs, metric)
    assert words in str(refused.value)


def test_the_terminal_shows_the_marked_rows_of_a_long_path(capsys: pytest.CaptureFixture) -> None:
    lambdas = tuple(np.geomspace(1e-3, 10, 80))
    answer = choose(curve("l1", 0.1, lambdas) + curve("l2", 0.3, lambdas))
    show(answer)
    shown = capsys.readouterr().out
    assert shown.count("← λ.min") == 2 and shown.count("λ.1se") >= 3
    assert len(shown.splitlines()) < 60 and shown.rstrip().endswith(answer.sentence)


def test_a_sweep_typed_by_hand_is_shown_too(capsys: pytest.CaptureFixture) -> None:
    runs = [run(penalty, lambd, 0, 0.3 + lambd, folds=1) for penalty in ("l1", "l2") for lambd in (0.0, 1.0, 3.0)]
    answer = choose(runs)
    show(answer)
    assert answer.comparisons == () and "note: one split and one seed" in capsys.readouterr().out


@given(end=st.floats(1e-300, 1.7e308), edge=st.sampled_from(["lower", "upper"]), has_zero=st.booleans())
def test_the_next_grid_is_one_however_large_or_small_the_best_is(end: float, edge: str, has_zero: bool) -> None:
    value = np.array([0.0, end] if has_zero else [end])
    _, *words = next_grid(value, edge, math.nan).split()
    grid = dict(word.removeprefix("hydra.sweeper.").split("=") for word in words)
    assert 0 < float(grid["max"]) < math.inf and 0 < float(grid["ratio"]) < 1 and int(grid["num"]) > 10


@given(st.lists(st.integers(1, 9), min_size=5, max_size=5), st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
def test_folds_of_rows_with_weights_count_by_these_as_in_cv_glmnet(weights: list[int], seed: int) -> None:
    """Its cvm is weighted.mean(cvraw, w), its cvsd √(weighted.mean((cvraw − cvm)², w)/(K − 1)), w of each fold."""
    losses = np.random.default_rng(seed).uniform(0.1, 1, size=(3, 5))
    found = [
        run("l1", lambd, fold, loss)
        for lambd, row in zip(LAMBDAS[:3], losses, strict=True)
        for fold, loss in enumerate(row)
    ]
    for fold, weight in enumerate(weights):
        for each in found:
            if each["params"]["data.fold"] == str(fold):
                each["tags"] = each["tags"] | {"data.weight.val": str(float(weight))}
    table = choose(found).table
    w = np.array(weights) / sum(weights)
    means = losses @ w
    np.testing.assert_allclose(table["mean"], means, rtol=1e-12)
    np.testing.assert_allclose(table["error"], np.sqrt(((losses - means[:, None]) ** 2) @ w / 4), rtol=1e-12)


@pytest.mark.parametrize("columns", [80, 100, 130])
@pytest.mark.parametrize("name", ["l2", "penalty_of_mine", "a_penalty_with_a_very_long_name_indeed"])
def test_the_table_fits_the_terminal(
    columns: int, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """At 80 columns too, with every number whole: what has no room is left out, column by column."""
    monkeypatch.setenv("COLUMNS", str(columns))
    answer = choose([*curve(name, 0.1, (0.1, 1.0)), *curve("l1", 0.2, (0.1, 1.0))])
    show(answer)
    lines = capsys.readouterr().out.split("\n\n")[0].splitlines()
    assert all(len(line) <= columns for line in lines) and "…" not in "".join(lines)
    for setting in answer.settings:
        assert any(f"{setting.mean:.5g}" in line and "λ.min" in line for line in lines)


@given(lambdas=st.integers(2, 6), folds=st.integers(1, 6), seeds=st.integers(1, 3), most=st.integers(1, 40))
def test_a_view_of_a_sweep_has_every_strength_of_one_split(lambdas: int, folds: int, seeds: int, most: int) -> None:
    runs = [
        one
        for penalty, seed in itertools.product(("l1", "l2"), range(seeds))
        for one in curve(penalty, 0.1, [0.01 * 3**place for place in range(lambdas)], folds, seed=seed)
    ]
    only = choose(runs).one_split(most)
    kept = [one for one in runs if all(one["params"][key] == value for key, value in only.items())]
    assert {(one["params"]["penalty"], one["metrics"]["lambd"]) for one in kept} == {
        (one["params"]["penalty"], one["metrics"]["lambd"]) for one in runs
    }
    assert len(kept) == len(runs) if len(runs) <= most else len(kept) <= max(most, 2 * lambdas)


def test_a_sweep_has_the_colour_of_the_penalty_that_won() -> None:
    runs = [one | {"tags": one["tags"] | {COLOUR: "#123456"}} for one in curve("l1", 0.1)]
    told = choose(runs + measured(curve("l2", 0.1), **{"val/loss": 0.9})).tags(None, None)
    assert told[COLOUR] == "#123456" and told["mlflow.note.content"].startswith("Take penalty=l1 with λ")
