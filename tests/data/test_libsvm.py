"""Sparse data have the path, the coefficients, the gaps and the errors of their dense twin, or are refused."""

import tempfile
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from conftest import config
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow.models import Model
from scipy.sparse import csc_array, csr_array, save_npz
from sklearn.datasets import dump_svmlight_file

from shrinkage.data.base import DataModule
from shrinkage.errors import InputError
from shrinkage.runs.export import coefficients, write_model
from shrinkage.sweeps.path import lambda_path
from shrinkage.tracking.logged_model import save
from shrinkage.training.lane import Lane
from shrinkage.training.lanes_training import build_lanes
from shrinkage.training.run import build
from shrinkage.training.workshop import Workshop, make

SAME = {"rtol": 0, "atol": 1e-10}


@st.composite
def sparse_rows(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Features [n, p] of mostly zeros, and numbers or classes; often binary, with equal, empty and constant columns."""
    random = np.random.default_rng(draw(st.integers(0, 100_000)))
    n, p, share = draw(st.integers(30, 60)), draw(st.integers(2, 60)), draw(st.sampled_from([0.05, 0.3]))
    is_binary = draw(st.booleans())
    x = (random.random((n, p)) < share) * (1.0 if is_binary else random.normal(size=(n, p)).round(3))
    x[:, 0] = draw(st.sampled_from([0.0, 1.0]))
    x[:, 1] = (np.arange(n) % 3 > 0) * random.normal(1, 1, n).round(3)
    signal = x[:, 1] + x[:, -1] + 0.5 * random.normal(size=n)
    kind = draw(st.sampled_from(["numbers", "two", "three"]))
    if kind == "numbers":
        return x, signal.round(3)
    return x, np.digitize(signal, np.quantile(signal, [0.5] if kind == "two" else [0.3, 0.6])).astype(float)


def write_both(x: np.ndarray, y: np.ndarray, folder: Path) -> tuple[list[str], list[str]]:
    """Write rows as sparse lines and as a table; returns the overrides that read them."""
    dump_svmlight_file(csr_array(x), y, str(folder / "rows.svm"), zero_based=False)
    if not x[:, -1].any():  # the format does not say how many columns there are
        x = x[:, : np.flatnonzero(x.any(axis=0))[-1] + 1]
    names = [str(j) for j in range(1, x.shape[1] + 1)]
    pd.DataFrame(x, columns=names).assign(y=y).to_csv(folder / "rows.csv", index=False)
    table = ["data=table", f"data.path={folder / 'rows.csv'}", "data.target=y"]
    return ["data=libsvm", f"data.path={folder / 'rows.svm'}"], table


def path_of(overrides: list[str], share: float) -> tuple[float, list[Lane], list[dict[str, float]], DataModule]:
    """Solve along a path down to a share of λ_max: λ_max, the lanes, and each one's coefficients that are not 0."""
    common = ["trainer=exact", "data.folds=3", "data.fold=1", *overrides]
    path = lambda_path(config(*common), 4, share, None, False).lambd
    cfgs = [config(*common, f"lambd={lambd}") for lambd in path]
    workshop, lanes = Workshop(cfgs[0]), list[Lane]()
    with tempfile.TemporaryDirectory() as folder:
        training = build_lanes(cfgs, workshop, Path(folder), lanes.append)
        training.run()
    tables = [coefficients(workshop.datamodule, training.model, lane.weights, lane.exchangeable) for lane in lanes]
    found = [
        {f"{o} {f}": c for o, f, c in zip(t["output"], t["feature"], t["coefficient"], strict=True) if c or "(" in f}
        for t in tables
    ]
    return path[0], lanes, found, workshop.datamodule


def assert_twins(sparse: list[str], dense: list[str]) -> None:
    (own, lanes, found, data), (twin, others, expected, other_data) = (path_of(each, 0.05) for each in (sparse, dense))
    assert data.is_sparse and not other_data.is_sparse
    assert own == twin
    for lane, other, table, wanted in zip(lanes, others, found, expected, strict=True):
        assert lane.error is None and other.error is None
        assert lane.measured["val/loss"] == pytest.approx(other.measured["val/loss"], rel=1e-9)
        gap = "optimum/duality_gap"
        np.testing.assert_allclose(lane.conclusion[gap], other.conclusion[gap], **SAME)
        assert lane.conclusion[gap] <= 1e-6 * max(lane.measured["train/objective"], 1e-3)
        assert table.keys() == wanted.keys()
        scale = max(1.0, *(abs(value) for value in wanted.values()))
        np.testing.assert_allclose(list(table.values()), list(wanted.values()), rtol=0, atol=1e-10 * scale)


@given(sparse_rows(), st.booleans(), st.sampled_from(["l1", "elastic_net"]))
@settings(deadline=None, max_examples=12)
def test_a_sparse_path_is_that_of_the_table_with_its_zeros(
    rows: tuple[np.ndarray, np.ndarray], standardize: bool, penalty: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        sparse, dense = write_both(*rows, Path(folder))
        more = [f"data.standardize={standardize}".lower(), f"penalty={penalty}"]
        assert_twins([*sparse, *more], [*dense, *more])


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    """A town of many, an age, a whole weight that may be 0, an offset, and a target."""
    random = np.random.default_rng(draw(st.integers(0, 100_000)))
    n = draw(st.integers(40, 80))
    frame = pd.DataFrame({"town": random.integers(0, draw(st.integers(3, 30)), n), "age": random.normal(40, 10, n)})
    frame["shop"] = random.choice(["open", "shut"], n)
    frame["w"], frame["o"] = random.integers(0, 4, n), random.normal(size=n)
    frame["y"] = frame["town"] % 3 + 0.1 * frame["age"] + 2 * (frame["shop"] == "open") + random.normal(size=n)
    return frame.assign(town="town " + frame["town"].astype(str)).round(3)


@given(tables(), st.booleans(), st.sampled_from(["l1", "elastic_net"]), st.booleans(), st.booleans(), st.booleans())
@settings(deadline=None, max_examples=12)
def test_a_table_is_the_same_with_and_without_its_zeros(
    frame: pd.DataFrame, standardize: bool, penalty: str, is_binary: bool, has_terms: bool, has_factor: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        frame["y"] = frame["y"] > frame["y"].median() if is_binary else frame["y"]
        path = Path(folder, "rows.csv")
        frame.to_csv(path, index=False)
        both = ["data=table", f"data.path={path}", "data.target=y", f"penalty={penalty}", "data.max_categories=1000"]
        both += [f"data.standardize={standardize}".lower(), *(["data.weight=w", "data.offset=o"] * has_terms)]
        both += ["+penalty.factor={age: 0, shop: 0.5}"] * has_factor
        assert_twins([*both, "data.sparse=true"], both)


def test_a_model_of_sparse_rows_is_served_with_the_features_that_it_uses(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    x = (random.random((80, 300)) < 0.1) * random.normal(size=(80, 300))
    y = 3 * x[:, 6] - 2 * x[:, 41] + 5 + 0.1 * random.normal(size=80)
    save_npz(tmp_path / "rows.npz", csr_array(x))
    np.savetxt(tmp_path / "y.txt", y)
    own = ["data=libsvm", f"data.path={tmp_path / 'rows.npz'}", f"data.target={tmp_path / 'y.txt'}"]
    training = build(config("trainer=exact", "penalty=l1", "lambd=0.1", *own), tmp_path)
    training.run()
    write_model(training.datamodule, training.module.model, tmp_path / "model")
    save(tmp_path / "model", tmp_path / "mlflow", Model())
    model = mlflow.pyfunc.load_model(str(tmp_path / "mlflow"))
    table = coefficients(training.datamodule, training.module.model)
    known = dict(zip(table["feature"], table["coefficient"], strict=True))
    intercept = known.pop("(intercept)")
    assert all(known.values()) and {"7", "42"} <= known.keys() and len(known) < 50
    assert set(model.metadata.get_input_schema().input_names()) == known.keys()
    rows = pd.DataFrame(x, columns=[str(j + 1) for j in range(300)])[list(known)]
    predicted = model.predict(rows.where(rows != 0))["prediction"]  # an empty cell is a zero
    np.testing.assert_allclose(predicted, rows.to_numpy() @ list(known.values()) + intercept, rtol=1e-12)
    np.testing.assert_allclose(predicted, y, atol=1.5)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("1 0:2", "line 3: the index in '0:2' must be from 1"),
        ("1 -1:2", "line 3: the index in '-1:2' must be from 1"),
        ("1 3:1 2:1", "line 3: the index 2 comes after 3, and indices must increase"),
        ("1 3:1 3:1", "line 3: the index 3 comes after 3"),
        ("yes 1:2", "line 3: the label 'yes' is no number"),
        ("1 1:2 x:3", "line 3: 'x:3' is no index:value"),
        ("1 1:2 3", "line 3: '3' is no index:value"),
        ("1 1:2:3", "line 3: '1:2:3' is no index:value"),
        ("1 99999999999:1", "line 3: the index in '99999999999:1' must be from 1 to 2147483647"),
        ("1 qid:3 1:2", "1 of 3 rows have a qid"),
        ("1 2:nan", "feature 2 of row 3 is nan"),
        ("1 2:1e200", "feature 2 of row 3 is 1e+200"),
        ("nan 2:1", "the label of row 3 is nan"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(line: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.svm"
    path.write_text(f"1 1:2 # a comment\n-1 2:0.5 7:1e-3\n{line}\n")
    with pytest.raises(InputError) as found:
        loaded(f"data.path={path}")
    assert words in str(found.value) and str(path) in str(found.value)


def loaded(*overrides: str) -> DataModule:
    data = make(config("data=libsvm", *overrides).data, order_seed=0)
    data.setup()
    return data


def test_rows_of_one_query_stay_in_one_part(tmp_path: Path) -> None:
    path = tmp_path / "rows.svm"
    path.write_text("".join(f"{k % 7 + 0.5 * k} qid:{k // 4 + 1} 1:{k + 1} {k + 2}:1\n" for k in range(40)))
    data = loaded(f"data.path={path}")
    homes = [set(rows // 4) for rows in data.rows.values()]
    assert sum(map(len, homes)) == 10 == len(set.union(*homes))


class Runs:
    """What runs where a pickle of it is read."""

    has_run = False

    def __reduce__(self) -> tuple[object, ...]:
        return setattr, (Runs, "has_run", True)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["data.path=no.svm"], "data.path=no.svm: there is no such file"),
        (["data.path={rows}", "data.target=y.npy"], "the label stands first in each line"),
        (["data.path={matrix}"], "a matrix has no labels, and data.target is not set"),
        (["data.path={matrix}", "data.target=no.npy"], "data.target=no.npy: there is no such file"),
        (["data.path={matrix}", "data.target={short}"], "2 labels for 30 rows"),
        (["data.path={matrix}", "data.target={matrix}"], "cannot be read"),
        (["data.path={matrix}", "data.target={pickle}"], "data.target=.*pickle.npy: cannot be read"),
        (["data.path={code}", "data.target={short}"], "data.path=.*code.npz: cannot be read"),
        (["data.path={matrix}", "data.target={words}", "data.task=regression"], "labels such as 'a' are no numbers"),
        (["data.path={words}"], "line 1: the label 'a' is no number"),
        (["data.path={rows}", "data.task=words"], "data.task=words: must be one of"),
        (["data.path={rows}", "data.task=classification"], "every class needs at least"),
        (["data.path={constant}"], "the label is 1 in every row"),
        (["data.path={empty}"], "there are no rows in it"),
        (["data.path={rows}", "task=poisson"], "counts"),
    ],
)
def test_files_that_cannot_be_used_are_refused(overrides: list[str], words: str, tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("rows", "constant", "empty", "short", "words")}
    files["rows"].write_text("".join(f"{k - 3.5} {k + 1}:1\n" for k in range(30)))
    files["constant"].write_text("1 1:2\n1 2:1\n")
    files["empty"].write_text("# nothing\n")
    files["short"].write_text("1\n2\n")
    files["words"].write_text("a\nb\n" * 15)
    files["matrix"] = tmp_path / "matrix.npz"
    save_npz(files["matrix"], csc_array(np.eye(30, 40)))
    files |= {"pickle": tmp_path / "pickle.npy", "code": tmp_path / "code.npz"}
    np.save(files["pickle"], np.array([Runs()] * 30, dtype=object), allow_pickle=True)
    np.savez(files["code"], format=np.array([Runs()], dtype=object))
    given = [each.format(**files) for each in overrides]
    with pytest.raises(InputError, match=words):
        Workshop(config("data=libsvm", "trainer=exact", "penalty=l1", *given))
    assert not Runs.has_run


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["penalty=l1"], "data=libsvm: its features are sparse, and steps of a training would write all"),
        (["trainer=exact", "model=mlp"], "data=libsvm: the objective of MLP is not convex"),
        (["trainer=exact", "penalty=mcp"], "data=libsvm: MCP is no sum of L1 and L2"),
        (["trainer=exact", "penalty=l1", "model.bias=false"], "leaves it to a free bias to subtract the means"),
        (["trainer=exact", "penalty=none"], "λ₁=0"),
    ],
)
def test_what_would_need_the_zeros_is_refused(overrides: list[str], words: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.svm"
    path.write_text("".join(f"{k % 7 + 0.5 * k} {k + 1}:1 {k + 2}:2\n" for k in range(40)))
    with pytest.raises(InputError, match=words):
        build(config("data=libsvm", f"data.path={path}", *overrides), tmp_path).run()
