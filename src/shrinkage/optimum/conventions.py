"""One strength of a penalty in the conventions of other libraries and texts.

    python -m shrinkage.optimum.conventions l2 0.1 --rows 265                      what λ = 0.1 is elsewhere
    python -m shrinkage.optimum.conventions l2 26.5 --given-as sklearn --rows 265  what Ridge(alpha=26.5) is here

λ here: the mean over n rows of ½ residual² (or of the cross-entropy) + λ·Ω(w), the bias free, with Ω = ½‖w‖², ‖w‖₁ or
ρ‖w‖₁ + (1 − ρ)·½‖w‖².
"""

import argparse
import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass

from shrinkage.boundary import command_in_one_line, leave
from shrinkage.errors import InputError

L2, L1, ELASTIC_NET = "l2", "l1", "elastic_net"


@dataclass(frozen=True)
class Circumstances:
    """The numbers of a training that a conversion of λ may need.

    rows: n of the training part. classes: None for regression. momentum: μ of SGD.

    noise_variance: σ² of a regression's residuals; a logistic likelihood has σ² = 1. target_sd: the standard deviation
    (1/n) of a regression's target over the training rows, by which it is divided here.
    """

    rows: int | None = None
    classes: int | None = None
    momentum: float = 0.0
    noise_variance: float | None = None
    l1_ratio: float = 0.5
    target_sd: float | None = None

    def n(self) -> int:
        """Give the number of training rows. Raises InputError if it is not known."""
        if self.rows is None:
            raise InputError("needs n, the number of training rows; give --rows")
        return self.rows

    def variance(self) -> float:
        """Give σ². Raises InputError if it is not known."""
        if self.classes is not None:
            return 1.0
        if self.noise_variance is None:
            raise InputError("needs σ², the variance of the noise; give --noise-variance")
        return self.noise_variance

    def deviation(self) -> float:
        """Give sd(y). Raises InputError if it is not known."""
        if self.target_sd is None:
            raise InputError("needs sd(y), the standard deviation (1/n) of the target; give --target-sd")
        return self.target_sd


def always(circumstances: Circumstances) -> bool:
    return True


@dataclass(frozen=True)
class Convention:
    """A convention is how another library or text writes the strength of a penalty.

    key: its name. penalty: which Ω. kind: regression, classification or both. minimises: its own objective. factor: its
    value is λ·factor, or factor/λ if inverse. text: how the value is written. linear: whether it is for linear models
    alone. applies: in which circumstances it can be written.
    """

    key: str
    penalty: str
    kind: str
    minimises: str
    text: str
    factor: Callable[[Circumstances], float]
    inverse: bool = False
    linear: bool = False
    applies: Callable[[Circumstances], bool] = always

    def value(self, lambd: float, circumstances: Circumstances) -> float:
        """Convert λ of this project into a value of the convention. Raises InputError if a number is missing."""
        if self.inverse:
            return math.inf if lambd == 0 else self.factor(circumstances) / lambd
        return lambd * float(self.factor(circumstances))

    def lambd(self, value: float, circumstances: Circumstances) -> float:
        """Convert a value of the convention into λ of this project. Raises InputError if a number is missing."""
        return self.factor(circumstances) / value if self.inverse else value / self.factor(circumstances)

    def written(self, lambd: float, circumstances: Circumstances) -> str:
        """Write λ as the convention does. Raises InputError if a number is missing."""
        return self.text.format(value=f"{self.value(lambd, circumstances):.6g}", rho=f"{circumstances.l1_ratio:g}")


def one(circumstances: Circumstances) -> float:
    return 1.0


def two(circumstances: Circumstances) -> float:
    return 2.0


def half(circumstances: Circumstances) -> float:
    return 0.5


def rows(circumstances: Circumstances) -> float:
    return float(circumstances.n())


def two_rows(circumstances: Circumstances) -> float:
    return 2.0 * circumstances.n()


def per_row(circumstances: Circumstances) -> float:
    return 1 / circumstances.n()


def target_sd(circumstances: Circumstances) -> float:
    return circumstances.deviation()


def has_two_classes(circumstances: Circumstances) -> bool:
    return circumstances.classes == 2


# glmnet divides y by its sd, and λ with it, whatever alpha and its own `standardize` are; the sd is that of 1/n.
GLMNET = "R's glmnet, where x and y are standardised here; λ in the units of y"
GLMNET_CLASSES = "R's glmnet (binomial, multinomial), where x is standardised here"
CONVENTIONS = (
    Convention("d2l", L2, "regression", "mean ½r² + (λ/2)‖w‖²", "λ = {value}", one),
    Convention("sum_of_squares", L2, "regression", "Σ½r² + (λ/2)‖w‖²", "λ = {value}", rows),
    Convention("mse", L2, "regression", "mean r² + (λ/2)‖w‖²", "λ = {value}", two),
    Convention("keras", L2, "regression", "mean r² + λΣw²", "keras.regularizers.L2({value})", one),
    Convention("slides", L2, "regression", "Σr² + λΣβ²", "λ = {value}", rows),
    Convention("sklearn", L2, "regression", "Σr² + alpha‖w‖²", "Ridge(alpha={value})", rows, linear=True),
    Convention("glmnet", L2, "regression", GLMNET, "glmnet(alpha=0, lambda={value})", target_sd, linear=True),
    Convention("torch_sgd", L2, "regression", "mean ½r², SGD's decay", "SGD(weight_decay={value})", one),
    Convention("torch_sgd_mse", L2, "regression", "nn.MSELoss, SGD's decay", "SGD(weight_decay={value})", two),
    Convention("torch_adam", L2, "regression", "mean ½r², Adam's decay", "Adam(weight_decay={value})", one),
    Convention("cross_entropy", L2, "classification", "mean CE + (λ/2)‖w‖²", "λ = {value}", one),
    Convention("sum_of_losses", L2, "classification", "ΣCE + (λ/2)‖w‖²", "λ = {value}", rows),
    Convention("keras", L2, "classification", "mean CE + λΣw²", "keras.regularizers.L2({value})", half),
    Convention(
        "sklearn",
        L2,
        "classification",
        "CΣCE + ½‖w‖²",
        "LogisticRegression(C={value})",
        per_row,
        inverse=True,
        linear=True,
    ),
    Convention("glmnet", L2, "classification", GLMNET_CLASSES, "glmnet(alpha=0, lambda={value})", one, linear=True),
    Convention(
        "two_softmax_rows",
        L2,
        "classification",
        "mean CE + (λ/2)‖W‖², a row of W for each of two classes",
        "λ = {value}",
        two,
        applies=has_two_classes,
    ),
    Convention("torch_sgd", L2, "classification", "mean CE, SGD's decay", "SGD(weight_decay={value})", one),
    Convention("torch_adam", L2, "classification", "mean CE, Adam's decay", "Adam(weight_decay={value})", one),
    Convention(
        "sgdw",
        L2,
        "both",
        "decay apart from the gradient, momentum μ (--momentum)",
        "SGDW(weight_decay={value})",
        lambda circumstances: 1 / (1 - circumstances.momentum),
    ),
    Convention(
        "optax",
        L2,
        "both",
        "mean ½r² or CE, decay before the step",
        "add_decayed_weights({value}) before sgd",
        one,
    ),
    Convention(
        "prior",
        L2,
        "both",
        "a Gaussian prior on each weight",
        "w ~ N(0, {value})",
        lambda circumstances: circumstances.variance() / circumstances.n(),
        inverse=True,
    ),
    Convention("sum_of_squares", L1, "regression", "Σ½r² + λ‖w‖₁", "λ = {value}", rows),
    Convention("mse", L1, "regression", "mean r² + λ‖w‖₁", "λ = {value}", two),
    Convention("keras", L1, "regression", "mean r² + λ‖w‖₁", "keras.regularizers.L1({value})", two),
    Convention("slides", L1, "regression", "Σr² + λΣ|β|", "λ = {value}", two_rows),
    Convention("sklearn", L1, "regression", "mean ½r² + alpha‖w‖₁", "Lasso(alpha={value})", one, linear=True),
    Convention("glmnet", L1, "regression", GLMNET, "glmnet(alpha=1, lambda={value})", target_sd, linear=True),
    Convention("sum_of_losses", L1, "classification", "ΣCE + λ‖w‖₁", "λ = {value}", rows),
    Convention("keras", L1, "classification", "mean CE + λ‖w‖₁", "keras.regularizers.L1({value})", one),
    Convention(
        "sklearn",
        L1,
        "classification",
        "CΣCE + ‖w‖₁",
        'LogisticRegression(C={value}, l1_ratio=1, solver="saga")',
        per_row,
        inverse=True,
        linear=True,
    ),
    Convention("glmnet", L1, "classification", GLMNET_CLASSES, "glmnet(alpha=1, lambda={value})", one, linear=True),
    Convention(
        "prior",
        L1,
        "both",
        "a Laplace prior on each weight",
        "w ~ Laplace(0, scale {value})",
        lambda circumstances: circumstances.variance() / circumstances.n(),
        inverse=True,
    ),
    Convention(
        "sklearn",
        ELASTIC_NET,
        "regression",
        "mean ½r² + alpha·(ρ‖w‖₁ + (1 − ρ)·½‖w‖²)",
        "ElasticNet(alpha={value}, l1_ratio={rho})",
        one,
        linear=True,
    ),
    Convention(
        "glmnet", ELASTIC_NET, "regression", GLMNET, "glmnet(alpha={rho}, lambda={value})", target_sd, linear=True
    ),
    Convention(
        "glmnet", ELASTIC_NET, "classification", GLMNET_CLASSES, "glmnet(alpha={rho}, lambda={value})", one, linear=True
    ),
    Convention(
        "sklearn",
        ELASTIC_NET,
        "classification",
        "CΣCE + ρ‖w‖₁ + (1 − ρ)·½‖w‖²",
        'LogisticRegression(C={value}, l1_ratio={rho}, solver="saga")',
        per_row,
        inverse=True,
        linear=True,
    ),
)
ADAMW = (
    "none: torch.optim.AdamW(weight_decay=λ) minimises no loss + penalty; over full batches its fixed point has the "
    "least data loss under ‖w‖_∞ ≤ 1/λ (Xie & Li, 2024, arXiv 2404.04454)"
)


def conventions(penalty: str, circumstances: Circumstances) -> list[Convention]:
    """List the conventions that have such a penalty for such a problem."""
    kind = "regression" if circumstances.classes is None else "classification"
    return [c for c in CONVENTIONS if c.penalty == penalty and c.kind in (kind, "both") and c.applies(circumstances)]


def convert_to_lambda(key: str, penalty: str, value: float, circumstances: Circumstances) -> float:
    """Convert a value in another convention into λ. Raises InputError if that is unknown or needs more numbers."""
    known = {convention.key: convention for convention in conventions(penalty, circumstances)}
    if key not in known:
        raise InputError(f"--given-as {key}: for {penalty} it must be one of {', '.join(known)}")
    if known[key].inverse and value == 0:
        raise InputError(f"{key} = 0 stands for an infinite λ; give a number > 0")
    try:
        return known[key].lambd(value, circumstances)
    except InputError as error:
        raise InputError(f"--given-as {key}: it {error}") from None


def tags(penalty: str, lambd: float, circumstances: Circumstances, linear: bool) -> dict[str, str]:
    """Make the tags `equivalent.*` of a run: how its λ is written in each convention whose numbers are known.

    The prior is given in units of σ² if σ² is not known.
    """
    found = {}
    for convention in conventions(penalty, circumstances):
        if linear or not convention.linear:
            with contextlib.suppress(InputError):
                found[f"equivalent.{convention.key}"] = equivalent(convention, lambd, circumstances)
    return found


def equivalent(convention: Convention, lambd: float, circumstances: Circumstances) -> str:
    if convention.key == "prior" and circumstances.classes is None and circumstances.noise_variance is None:
        relative = convention.value(lambd, Circumstances(rows=circumstances.n(), noise_variance=1.0))
        return convention.text.format(value=f"{relative:.6g}·σ²") + ", σ² the variance of the noise"
    return convention.written(lambd, circumstances)


def show(penalty: str, lambd: float, circumstances: Circumstances) -> None:
    """Print the table of the command."""
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=f"{penalty} with λ = {lambd:.6g} in shrinkage is", title_justify="left", box=None, pad_edge=False
    )
    for column in ("convention", "there", "what it minimises"):
        table.add_column(column, overflow="fold")
    for convention in conventions(penalty, circumstances):
        try:
            infinite = convention.inverse and lambd == 0
            written = "none at λ = 0" if infinite else convention.written(lambd, circumstances)
        except InputError as error:
            written = str(error)
        table.add_row(convention.key, written, convention.minimises)
    if penalty == L2:
        table.add_row("torch_adamw", ADAMW, "")
    Console().print(table, highlight=False)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m shrinkage.optimum.conventions",
        description="One strength of a penalty in the conventions of other libraries and texts.",
        epilog="λ here: mean of ½r² (or of the cross-entropy) + λ·Ω(w), Ω = ½‖w‖², ‖w‖₁ or ρ‖w‖₁ + (1 − ρ)·½‖w‖².",
    )
    parser.add_argument("penalty", choices=(L2, L1, ELASTIC_NET))
    parser.add_argument("value", type=float, help="λ, or what another convention has in its place")
    parser.add_argument("--given-as", metavar="KEY", help="the convention of the value, such as sklearn or slides")
    parser.add_argument("--rows", type=int, help="n, the number of training rows")
    parser.add_argument("--classes", type=int, help="how many classes; leave out for regression")
    parser.add_argument("--momentum", type=float, default=0.0, help="μ of SGD, for decay apart from the gradient")
    parser.add_argument("--noise-variance", type=float, help="σ² of a regression's noise, for the prior")
    parser.add_argument("--target-sd", type=float, help="sd(y), 1/n, of a regression's training rows, for glmnet")
    parser.add_argument("--l1-ratio", type=float, default=0.5, help="ρ of the elastic net")
    given = parser.parse_args()
    for name, value, holds, rule in (
        ("value", given.value, math.isfinite(given.value) and given.value >= 0, "must be a finite number ≥ 0"),
        ("--rows", given.rows, given.rows is None or given.rows > 0, "must be ≥ 1"),
        ("--classes", given.classes, given.classes is None or given.classes > 1, "must be ≥ 2"),
        ("--momentum", given.momentum, 0 <= given.momentum < 1, "must be 0 ≤ μ < 1"),
        (
            "--noise-variance",
            given.noise_variance,
            given.noise_variance is None or given.noise_variance > 0,
            "must be > 0",
        ),
        ("--target-sd", given.target_sd, given.target_sd is None or 0 < given.target_sd < math.inf, "must be > 0"),
        ("--l1-ratio", given.l1_ratio, 0 <= given.l1_ratio <= 1, "must be 0 ≤ ρ ≤ 1"),
    ):
        if not holds:
            leave(f"{name}={value}: {rule}")
    circumstances = Circumstances(
        given.rows, given.classes, given.momentum, given.noise_variance, given.l1_ratio, given.target_sd
    )
    with command_in_one_line():
        theirs = given.given_as
        lambd = convert_to_lambda(theirs, given.penalty, given.value, circumstances) if theirs else given.value
        show(given.penalty, lambd, circumstances)


if __name__ == "__main__":
    main()
