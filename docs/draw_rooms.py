"""Draw the rooms of the house and the arrows between them, as the code has them, into docs/images/rooms.png.

    python docs/draw_rooms.py           draws
    python docs/draw_rooms.py --check   says whether the picture still shows the code

A room is a file or a package directly under `shrinkage`, and each of the other two packages. An arrow leads from a room
to one whose names it imports; one that a longer way implies is not drawn. The picture carries all arrows as text.
"""

import json
import sys
from pathlib import Path

import grimp
from matplotlib.figure import Figure
from PIL import Image

PICTURE = Path(__file__).parent / "images" / "rooms.png"
PACKAGES = ("shrinkage", "shrinkage_studies", "hydra_plugins.shrinkage")
COLOURS = {"shrinkage_studies": "#F5DDB0", "hydra_plugins.shrinkage": "#F5DDB0"}
SWEEPS = 50  # of the ordering that lets few arrows cross

Arrows = dict[str, list[str]]


def room_of(module: str) -> str | None:
    """The room of a module, "report" of "shrinkage.report.sentences"; None of the package itself."""
    for package in PACKAGES[1:]:
        if f"{module}.".startswith(f"{package}."):
            return package
    return next(iter(module.split(".")[1:]), None)


def arrows() -> Arrows:
    """By each room the others that it imports from, for type checking as well."""
    graph = grimp.build_graph(*PACKAGES)
    found: dict[str, set[str]] = {}
    for module in graph.modules:
        room = room_of(module)
        if room is not None:
            used = {room_of(other) for other in graph.find_modules_directly_imported_by(module)}
            found.setdefault(room, set()).update(used - {room, None})
    return {room: sorted(used) for room, used in sorted(found.items())}


def without_implied(found: Arrows) -> Arrows:
    """The arrows that no longer way implies."""

    def reached(room: str) -> set[str]:
        return set(found[room]).union(*map(reached, found[room]))

    return {
        room: [used for used in others if not any(used in reached(other) for other in others)]
        for room, others in found.items()
    }


def floors(found: Arrows) -> list[list[str]]:
    """The rooms by floors, the lowest first: each stands one above the highest that it uses."""
    height: dict[str, int] = {}

    def height_of(room: str) -> int:
        if room not in height:
            height[room] = 1 + max(map(height_of, found[room]), default=-1)
        return height[room]

    for room in found:
        height_of(room)
    return [[room for room in found if height[room] == floor] for floor in range(1 + max(height.values()))]


def places(found: Arrows) -> dict[str, tuple[float, float]]:
    """Where each room stands: its floor, and beside the rooms that its arrows lead to and come from."""
    storeys = floors(found)
    x = {room: number - (len(floor) - 1) / 2 for floor in storeys for number, room in enumerate(floor)}
    near = {room: [*others, *(other for other in found if room in found[other])] for room, others in found.items()}
    for _ in range(SWEEPS):
        for floor in storeys:
            floor.sort(key=lambda room: sum(x[other] for other in near[room]) / max(len(near[room]), 1))
            x |= {room: number - (len(floor) - 1) / 2 for number, room in enumerate(floor)}
    return {room: (x[room], y) for y, floor in enumerate(storeys) for room in floor}


def draw(found: Arrows) -> Figure:
    """The picture: an arrow leads down to what a room uses."""
    shown = without_implied(found)
    where = places(shown)
    figure = Figure(figsize=(9, 8), layout="constrained", dpi=100)
    axes = figure.subplots()
    across, up = zip(*where.values(), strict=True)
    axes.set(xlim=(min(across) - 0.6, max(across) + 0.6), ylim=(-0.5, max(up) + 0.5))
    axes.axis("off")
    boxes = {}
    for room, place in where.items():
        box = {"boxstyle": "round,pad=0.4", "fc": COLOURS.get(room, "#DCE9F2"), "ec": "#555"}
        boxes[room] = axes.text(*place, room, ha="center", va="center", fontsize=10, bbox=box, zorder=3)
    figure.draw_without_rendering()  # now the boxes have their sizes
    for room, others in shown.items():
        for used in others:
            ends = {"patchA": boxes[room].get_bbox_patch(), "patchB": boxes[used].get_bbox_patch()}
            arrow = {"arrowstyle": "-|>", "color": "#777", "lw": 0.9, "shrinkA": 0, "shrinkB": 3, **ends}
            axes.annotate("", where[used], where[room], arrowprops=arrow, zorder=1)
    return figure


def drawn() -> Arrows:
    """The arrows that the picture carries."""
    with Image.open(PICTURE) as picture:
        return json.loads(picture.text["Rooms"])


if __name__ == "__main__":
    found = arrows()
    if sys.argv[1:] == ["--check"]:
        if not PICTURE.exists() or drawn() != found:
            sys.exit(f"{PICTURE.name} shows another house than the code has; use python docs/draw_rooms.py")
    else:
        draw(found).savefig(PICTURE, metadata={"Rooms": json.dumps(found)})
