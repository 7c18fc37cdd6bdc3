"""Pictures of runs."""

from matplotlib.figure import Figure

# Okabe & Ito's colours, told apart by every kind of colour vision.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#777777"


def learning_curves(history: list[tuple[int, dict[str, float]]], title: str, unit: str) -> Figure:
    """Losses and penalty (left) and the norm of the weights (right) against the epochs or steps finished."""
    steps = [step for step, _ in history]
    figure = Figure(figsize=(9, 3.6), layout="constrained", dpi=120)
    losses, sizes = figure.subplots(1, 2)
    for name, colour, style in (
        ("train/loss", BLUE, "-"),
        ("val/loss", ORANGE, "-"),
        ("train/penalty", GREY, "--"),
    ):
        losses.plot(steps, [measured[name] for _, measured in history], style, color=colour, label=name)
    if all(measured[name] > 0 for _, measured in history for name in ("train/loss", "val/loss")):
        losses.set_yscale("log")
    losses.set(xlabel=f"{unit}s finished", ylabel="loss, and penalty λΩ(w)")
    losses.legend(frameon=False)
    sizes.plot(steps, [measured["weight/l2"] for _, measured in history], color=GREEN, label="‖w‖₂")
    sizes.set(xlabel=f"{unit}s finished", ylabel="norm of the weights ‖w‖₂")
    sizes.set_ylim(bottom=0)
    share = sizes.twinx()
    share.plot(steps, [measured["weight/zeros"] for _, measured in history], ":", color=GREY)
    share.set(ylabel="share of exact zeros (dotted)", ylim=(-0.02, 1.02))
    for axes in (losses, sizes):
        axes.grid(alpha=0.25)
        axes.spines["top"].set_visible(False)
    figure.suptitle(title)
    return figure
