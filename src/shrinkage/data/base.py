"""What every data set offers to the rest: its parts, and batches of their rows."""

import functools
import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import lightning.pytorch as L
import numpy as np
import torch
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map
from torch.utils.data import DataLoader, Dataset, Sampler

from shrinkage.checks import Whole, check
from shrinkage.errors import InputError

from .recipe import Column, Feature, Recipe

if TYPE_CHECKING:
    import pandas as pd

EXAMPLE_ROWS = 5
NUMBERS_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Part:
    """One part of a data set, in memory.

    x: float64 [n, …], or a csc_array of SciPy's [n, p] where the data set is sparse. y [n]: float64 for regression,
    [n, targets] of several, [n, 2] of times and events, else int64 class codes. Images have bytes for x, and text for x
    and y, [n, context]. For a model of several inputs x is a dict or a tuple of such arrays, and of whole numbers.
    weight: float64 [n] > 0, how much each row counts, with a mean of 1 over the training part; None where all count the
    same. offset: float64 [n], what is added to the model's output for each row; None for nothing.
    """

    x: Any
    y: np.ndarray
    weight: np.ndarray | None = None
    offset: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.y)

    @property
    def digest(self) -> str:
        """16 hexadecimal digits of the SHA-256 of shapes and values."""
        x: Any = self.x
        arrays, structure = tree_flatten(x)
        shapes = x.shape if isinstance(x, np.ndarray) else (str(structure), *(each.shape for each in arrays))
        if not isinstance(x, np.ndarray) and hasattr(x, "indptr"):  # a sparse matrix
            arrays = [x.data, x.indices.astype(np.int64), x.indptr.astype(np.int64)]
        content = hashlib.sha256(repr((shapes, self.y.shape, self.y.dtype.str)).encode())
        for array in (*arrays, self.y):
            content.update(np.ascontiguousarray(array).data)
        for name, array in (("weight", self.weight), ("offset", self.offset)):
            if array is not None:
                content.update(name.encode() + np.ascontiguousarray(array).tobytes())
        return content.hexdigest()[:16]


def pick(x: Any, rows: torch.Tensor | slice | int) -> Any:
    """Take some rows of a tensor, or of each tensor of a dict or a tuple."""
    return x[rows] if isinstance(x, torch.Tensor) else tree_map(lambda tensor: tensor[rows], x)


class Batch(NamedTuple):
    """Some rows as they are drawn; one whose rows have neither weights nor offsets may be a pair (x, y) as well.

    x: of a sparse data set the csc_array of a whole part. weight and offset are those of `Part`, in double precision.
    """

    x: Any
    y: torch.Tensor
    weight: torch.Tensor | None = None
    offset: torch.Tensor | None = None

    def pick(self, rows: torch.Tensor | slice | int) -> dict[str, Any]:
        """Take some of the rows, or of each draw's; by name what they have."""
        return {name: pick(value, rows) for name, value in self._asdict().items() if value is not None}


def shifted(output: torch.Tensor, offset: torch.Tensor | None) -> torch.Tensor:
    """Add the rows' offsets [..., n] to a model's outputs [..., n, outputs]."""
    return output if offset is None else output + offset[..., None]


class TensorRows(Dataset[Any]):
    """Rows x with their targets y, to be indexed by a tensor or a slice of row numbers.

    Rows with weights or offsets come as `Batch` has them, all others as x and y.
    """

    def __init__(
        self, x: Any, y: torch.Tensor, weight: torch.Tensor | None = None, offset: torch.Tensor | None = None
    ) -> None:
        self.x, self.y, self.more = x, y, (weight, offset)
        self.is_plain = weight is None and offset is None

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, rows: torch.Tensor | slice) -> tuple[Any, ...]:
        if self.is_plain:
            return pick(self.x, rows), self.y[rows]
        return Batch(pick(self.x, rows), self.y[rows], *(None if each is None else each[rows] for each in self.more))


class WholeRows(Dataset[Any]):
    """The rows of a sparse part: all of them, whichever are asked for, since no row is written with its zeros."""

    def __init__(self, rows: Batch) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows.y)

    def __getitem__(self, rows: torch.Tensor | slice) -> tuple[Any, ...]:
        return self.rows


@dataclass(frozen=True)
class Share:
    """The rows of each batch that one process trains on, if several processes train one model.

    Process `rank` of `size` has every size-th row, from row `rank` on.
    """

    rank: int = 0
    size: int = 1

    def of(self, rows: torch.Tensor) -> torch.Tensor:
        """Take this process's rows of a batch; there may be none."""
        return rows[self.rank :: self.size]

    def weight(self, rows: int) -> float:
        """Weigh the mean loss over this process's rows of a batch of so many rows.

        The mean of the weighted losses over the processes is then the mean loss over the whole batch.
        """
        return len(range(self.rank, rows, self.size)) * self.size / rows


WHOLE = Share()


class Batches(Sampler[torch.Tensor], ABC):
    """The batches of an epoch, each a tensor of row numbers."""

    @abstractmethod
    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose batches are drawn next; Lightning calls it before every epoch."""

    @abstractmethod
    def __len__(self) -> int: ...


class SharedBatches(Batches):
    """One process's share of the batches of another sampler.

    A batch with fewer rows than there are processes is given to each of them whole.
    """

    def __init__(self, batches: Batches, share: Share) -> None:
        self.batches, self.share = batches, share

    def set_epoch(self, epoch: int) -> None:
        self.batches.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[torch.Tensor]:
        return (rows if len(rows) < self.share.size else self.share.of(rows) for rows in self.batches)


class ShuffledBatches(Batches):
    """Batches of rows in an order that is drawn anew for each epoch, from (seed, epoch) alone.

    The rows are those from number `first` on. draw: how many of them an epoch has; None for all.
    """

    def __init__(self, rows: int, batch_size: int, seed: int, first: int = 0, draw: int | None = None) -> None:
        self.rows, self.batch_size, self.seed, self.first = rows, batch_size, seed, first
        self.drawn = min(draw or rows, rows)
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.drawn // self.batch_size)

    def __iter__(self) -> Iterator[torch.Tensor]:
        if self.batch_size == self.rows:
            return iter([self.first + torch.arange(self.rows)])
        random = np.random.default_rng([self.seed, self.epoch])
        if self.drawn < self.rows:
            order = self.first + random.choice(self.rows, self.drawn, replace=False)
        else:
            order = self.first + random.permutation(self.rows)
        return iter(torch.from_numpy(order).split(self.batch_size))


class StackedBatches(Batches):
    """Batches of several orders at a time, [orders, batch]."""

    def __init__(self, orders: Sequence[ShuffledBatches]) -> None:
        self.orders = orders

    def set_epoch(self, epoch: int) -> None:
        for order in self.orders:
            order.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.orders[0])

    def __iter__(self) -> Iterator[torch.Tensor]:
        return map(torch.stack, zip(*self.orders, strict=True))


def loaded(rows: Dataset[Any], batches: Iterable[torch.Tensor]) -> Iterable[Any]:
    """Load rows in batches, each given by the numbers of its rows; a tuple of inputs stays one."""
    return DataLoader(rows, batch_size=None, sampler=batches, collate_fn=tuple)


@functools.lru_cache(maxsize=16)  # each of a thousand lanes asks for it
def recipe_of_numbers(names: tuple[str, ...]) -> Recipe:
    """Build the recipe by which columns of these names, all of numbers, are the features."""
    return Recipe(tuple(Column(name, "number") for name in names), tuple(Feature(name, name) for name in names))


class DataModule(L.LightningDataModule, ABC):
    """A data set with parts `train`, and perhaps `val` and `test`.

    seed: fixes the data or their split. batch_size: rows a step, None for all of them. order_seed: fixes the order
    of the batches. `order_seeds` may be set to several afterwards, to draw a batch of each order at once; `share` may
    be set too, to draw one process's rows of each batch. `own_units` may be set before `setup`: then the target is read
    as numbers, and keeps the user's units.

    kind: `rows` that each have a target, or `language` of which the next byte is predicted. stackable: whether several
    draws of it can be put together for lanes, as tensors. in_memory: whether a part's x and y are there, to solve for
    optima. is_sparse: whether x is a sparse matrix, so that there is no training by steps, and a part is one batch.
    standardize: whether features, and a regression target, are divided by their standard deviations; sparse features
    are not centred, which a free bias makes up for.

    After `setup`: parts; classes (None for regression) and class_names; feature_names, of rows of numbers; for
    regression center and scale, by which y·scale + center is in the user's units, of several targets one each, and
    target_names, theirs; least_target, the smallest of all targets, if their own units are kept; row_terms, which of
    `weight` and `offset` the rows have; total_weights, Σ weight of each part in the user's units, if the rows have
    them; noise_variance, σ² of y, where it is known; digest, of all rows whatever their split, or None; notes,
    sentences that the user should read.
    """

    kind: ClassVar[Literal["rows", "language"]] = "rows"
    stackable: ClassVar[bool] = True
    in_memory: ClassVar[bool] = True

    def __init__(self, *, seed: int, batch_size: int | None, order_seed: int) -> None:
        super().__init__()
        check("data.batch_size", batch_size, Whole(1, or_null=True), "use data.batch_size=null for all rows")
        self.seed, self.batch_size = seed, batch_size
        self.standardize, self.is_sparse = False, False
        self.title: str | None = None  # where the data have a better name than their choice in conf/data
        self.order_seeds = [order_seed]
        self.share = Share()
        self.own_units = False
        self.epoch_rows: int | None = None  # of the training part that an epoch draws; None for all
        self.parts: Mapping[str, Part] = {}
        self.classes: int | None = None
        self.class_names: tuple[str, ...] = ()
        self.feature_names: tuple[str, ...] = ()
        self.center: float | tuple[float, ...] = 0.0
        self.scale: float | tuple[float, ...] = 1.0
        self.target_names: tuple[str, ...] = ()  # of several
        self.has_events = False  # whether y is [n, 2], times and whether an event was seen then, or [n, 3] with strata
        self.strata_column: Column | None = None  # of times until an event, and the strata's names by their numbers
        self.strata_names: tuple[str | float, ...] = ()
        self.least_target: float | None = None
        self.row_terms: tuple[str, ...] = ()
        self.total_weights: Mapping[str, float] = {}  # of times until an event, how many events
        self.noise_variance: float | None = None
        self.digest: str | None = None
        self.notes: list[str] = []

    @abstractmethod
    def make_parts(self) -> Mapping[str, Part]:
        """Make the parts by name, and set what else `setup` promises. Raises InputError on bad input."""

    def share_reading(self, earlier: "DataModule | None") -> None:
        """Before `setup`: take over what an earlier data set has read from the same file, and keep it for a later one.

        Of data that are quickly there nothing is kept.
        """

    def setup(self, stage: str | None = None) -> None:
        """Make the parts, once. Raises InputError on bad input."""
        if self.parts:
            return
        self.parts = self.make_parts()
        self.check_terms()
        if self.least_target is None and self.own_units and self.in_memory and self.classes is None:
            self.least_target = float(min(part.y.min() for part in self.parts.values()))
        rows = len(self.parts["train"])
        if self.batch_size is not None and self.batch_size > rows:
            self.notes.append(
                f"data.batch_size={self.batch_size} is more than the {rows} training rows: each batch is all of them."
            )
        drawn = min(self.epoch_rows or rows, rows)
        self.batch_rows = min(self.batch_size or drawn, drawn)

    def check_terms(self) -> None:
        """Look whether every part has the weights and offsets that its rows were read with.

        Raises InputError where a class that makes parts of its own has left them out.
        """
        for key in self.row_terms:
            if any(getattr(part, key) is None for part in self.parts.values()):
                raise InputError(
                    f"data.{key}: {type(self).__name__} makes parts of its own and leaves it out; leave it out here, "
                    f"too, or make each part by dataclasses.replace"
                )

    @property
    def inputs(self) -> Any:
        """How many numbers a row has; of images [channels, height, width], of text [context].

        Of several inputs a dict of that by their names, or by their places from 0 in a tuple.
        """
        x = self.parts["train"].x
        if isinstance(x, tuple | list):
            x = dict(enumerate(x))
        return tree_map(lambda array: array.shape[1] if array.ndim == 2 else array.shape[1:], x)

    @property
    def rows_at_once(self) -> int:
        """How many rows are evaluated at once: enough for small data in one batch, and a bound on the memory."""
        numbers = sum(math.prod(array.shape[1:]) for array in tree_leaves(self.parts["train"].x))
        return max(min(16_384, NUMBERS_AT_ONCE // numbers), 1)

    def recipe(self) -> Recipe:
        """Give the way from the user's own columns to the features; here the columns are the features.

        Raises InputError if the data have no columns.
        """
        return recipe_of_numbers(self.feature_names)

    def recipe_of(self, features: Sequence[int]) -> Recipe:
        """Give the way to some of the features alone, by their places, from the columns that it needs."""
        whole = self.recipe()
        some = tuple(whole.features[place] for place in features)
        needed = {whole.offset, *(each.column for each in some)}
        return replace(whole, columns=tuple(each for each in whole.columns if each.name in needed), features=some)

    @functools.cached_property
    def units(self) -> tuple[Sequence[str], np.ndarray, np.ndarray]:
        """The features' names, and what is subtracted from each and what divides it, [features]."""
        features = self.recipe().features
        means, scales = (np.array([getattr(each, name) for each in features]) for name in ("mean", "scale"))
        return [each.name for each in features], means, scales

    def names_of_features(self) -> list[tuple[str, str, str]]:
        """List the names that each feature goes by: its own, that of its column's part, and its column's."""
        return [
            (each.name, f"{each.column}_{each.part}" if each.part else each.column, each.column)
            for each in self.recipe().features
        ]

    def example(self) -> "pd.DataFrame":
        """Take some training rows in the user's own columns."""
        import pandas as pd  # takes half a second, and data that are drawn need it for this alone

        return pd.DataFrame(self.parts["train"].x[:EXAMPLE_ROWS], columns=list(self.feature_names))

    def describe(self, name: str) -> list[dict[str, object]]:
        """Describe each part as MLflow's page shows a data set: name, digest, context, source and profile."""
        contexts = {"train": "training", "val": "validation", "test": "testing"}
        return [
            {
                "name": self.title or name,
                "digest": part.digest,
                "context": contexts[key],
                "source": {"class": type(self).__name__, "seed": self.seed}
                | ({"uri": self.title} if self.title else {}),
                "profile": {"rows": len(part), "features": self.inputs, "classes": self.classes},
            }
            for key, part in self.parts.items()
        ]

    @property
    def tags(self) -> dict[str, str]:
        """The tags by which runs on the same data are found: how many rows each part has, and the digest of all."""
        rows = {f"data.rows.{name}": str(len(part)) for name, part in self.parts.items()}
        rows |= {f"data.weight.{name}": repr(total) for name, total in self.total_weights.items()}
        return rows | ({} if self.digest is None else {"data.digest": self.digest})

    @property
    def dtype(self) -> torch.dtype:
        """Double precision where the trainer works in it."""
        double = self.trainer is not None and self.trainer.precision == "64-true"
        return torch.float64 if double else torch.float32

    def tensors(self, part: str) -> Dataset[Any]:
        """Give a part as a data set of tensors x, y, to be indexed by a tensor or a slice of row numbers.

        A sparse part is given whole.
        """
        x, y = self.parts[part].x, torch.from_numpy(self.parts[part].y)
        is_one = isinstance(x, np.ndarray)
        if not self.is_sparse:
            x = torch.from_numpy(x).to(self.dtype) if is_one else tree_map(self.tensor_of_an_input, x)
        more = (self.parts[part].weight, self.parts[part].offset)
        more = [None if each is None else torch.from_numpy(each) for each in more]
        y = y.to(self.dtype) if self.classes is None else y
        return WholeRows(Batch(x, y, *more)) if self.is_sparse else TensorRows(x, y, *more)

    def tensor_of_an_input(self, array: np.ndarray) -> torch.Tensor:
        """Make a tensor of one of several inputs: numbers as the trainer works in, and whole numbers as they are."""
        tensor = torch.from_numpy(array)
        return tensor.to(self.dtype) if tensor.is_floating_point() else tensor

    def train_dataloader(self) -> Iterable[Any]:
        """Give an epoch's batches x [batch, …], y [batch]; with several orders one of each, [orders, batch, …].

        x is a dict or a tuple of tensors if the model has several inputs. Rows may have more (see `Batch`).
        """
        rows = len(self.parts["train"])
        orders = [ShuffledBatches(rows, self.batch_rows, seed, draw=self.epoch_rows) for seed in self.order_seeds]
        sampler: Batches = orders[0] if len(orders) == 1 else StackedBatches(orders)
        if self.share.size > 1:
            sampler = SharedBatches(sampler, self.share)
        return loaded(self.tensors("train"), sampler)

    def weight(self, batch: int) -> float:
        """Weigh the mean loss over this process's rows of a batch, by the batch's number in its epoch (see `Share`)."""
        drawn = min(self.epoch_rows or len(self.parts["train"]), len(self.parts["train"]))
        rows = min(self.batch_rows, drawn - batch * self.batch_rows)
        return self.share.weight(rows) if rows >= self.share.size else 1.0

    def measured(self, part: str) -> torch.Tensor:
        """Give the numbers of the rows that a part is evaluated on, in their order."""
        return torch.arange(len(self.parts[part]))

    def evaluation_dataloader(self, part: str, rows: int, share: Share = WHOLE) -> Iterable[Any]:
        """Give a part's rows in their order, in batches of so many; with a share its rows of each, perhaps none.

        A sparse part is one batch, since no row is written with its zeros.
        """
        whole = len(self.parts[part])
        order = [share.of(batch) for batch in self.measured(part).split(whole if self.is_sparse else rows)]
        return loaded(self.tensors(part), order)


class StackedData(DataModule):
    """Several draws or splits of one data set, of equal sizes, for lanes that each train on their own.

    orders: for every batch that is drawn at once, [orders, batch, …], the number of its data set and the seed of its
    order. Evaluation batches are [data sets, rows, …]. Sizes and names are those of the first data set. Raises
    InputError where their parts lack what their rows have.
    """

    def __init__(self, datamodules: Sequence[DataModule], orders: Sequence[tuple[int, int]]) -> None:
        first = datamodules[0]
        super().__init__(seed=first.seed, batch_size=first.batch_size, order_seed=0)
        self.datamodules, self.orders = datamodules, orders
        self.setup()
        self.batch_rows = first.batch_rows

    def make_parts(self) -> Mapping[str, Part]:
        first = self.datamodules[0]
        same = ("classes", "class_names", "feature_names", "standardize", "center", "scale", "noise_variance", "title")
        for name in (*same, "row_terms", "target_names", "has_events"):
            setattr(self, name, getattr(first, name))
        return first.parts

    def recipe(self) -> Recipe:
        raise TypeError("each of the data sets has a recipe of its own")

    def tensors(self, part: str) -> Dataset[Any]:
        for datamodule in self.datamodules:
            datamodule.trainer = self.trainer
        draws = [Batch(*datamodule.tensors(part)[:]).pick(slice(None)) for datamodule in self.datamodules]
        return TensorRows(**tree_map(lambda *tensors: torch.cat(tensors), *draws))

    def train_dataloader(self) -> Iterable[Any]:
        rows = len(self.parts["train"])
        sampler = [ShuffledBatches(rows, self.batch_rows, seed, first=data * rows) for data, seed in self.orders]
        return loaded(self.tensors("train"), StackedBatches(sampler))

    def evaluation_dataloader(self, part: str, rows: int, share: Share = WHOLE) -> Iterable[Any]:
        starts = len(self.parts[part]) * torch.arange(len(self.datamodules))[:, None]
        order = [starts + batch for batch in torch.arange(len(self.parts[part])).split(rows)]
        return loaded(self.tensors(part), order)
