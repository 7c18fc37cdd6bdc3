"""The report of runs that MLflow remembers.

    python -m shrinkage.report 0cedb3315aa74455bb281516d8f17dd4           a sweep, by its parent's run id
    python -m shrinkage.report shrinkage --metric val/r2 --out report     all finished runs of an experiment

Prints the choice of λ with what it rests on, and writes report.html, its pictures, runs.csv and answer.json; for a
sweep they are kept with the parent run too, and its description becomes the answer.
"""

import argparse
import re
from pathlib import Path

from shrinkage.boundary import command_in_one_line
from shrinkage.errors import InputError
from shrinkage.machine.imports import importing_much
from shrinkage.machine.waiting import doing
from shrinkage.tracking.finding import find
from shrinkage.tracking.location import jobs_page, run_page, store_uri
from shrinkage.tracking.views import PAGE


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m shrinkage.report",
        description="Which λ, and which setting, do these runs speak for? A table, the answer and a report of it.",
        epilog="Example: python -m shrinkage.report shrinkage --metric val/r2 --out report. How the choice is made: "
        "docs/choosing.md.",
    )
    parser.add_argument(
        "target",
        help="the id of a sweep's own (parent) run, which is in the last line of the sweep's output and in MLflow's "
        "page; or the name or id of an experiment, for all of its finished runs",
    )
    parser.add_argument(
        "--metric",
        default="val/loss",
        help="what to choose by (default: val/loss); the runs have recorded whether larger values of it are better",
    )
    parser.add_argument(
        "--store",
        metavar="URI",
        help="where the runs are, as in mlflow ui --backend-store-uri (default: MLFLOW_TRACKING_URI, else mlflow.db in "
        "the current folder)",
    )
    parser.add_argument(
        "--out", metavar="FOLDER", type=Path, help="where the files go (default: report-TARGET in the current folder)"
    )
    return parser.parse_args()


def main() -> None:
    given = arguments()
    with command_in_one_line():
        report(given)


def report(given: argparse.Namespace) -> None:
    with importing_much():
        from .choice import choose
        from .page import draw, write
        from .terminal import show

    uri = store_uri(given.store, Path.cwd())
    with doing("reading runs") as say:
        found, source = find(uri, given.target, lambda count: say(f"reading runs: {count:,}"))
    answer = choose(found.runs, given.metric)
    show(answer)
    folder = given.out or Path("report-" + re.sub(r"[^\w.-]+", "-", given.target))
    try:
        with doing("drawing the report"):
            files = write(answer, found.runs, draw(answer, source, folder), folder, found.title)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); choose another folder with --out") from error
    print(f"\n{folder / 'report.html'} and {len(files) - 1} more files")
    if found.parent is not None:
        run = found.experiment_id, found.parent
        pages = run_page(*run, "report.html"), jobs_page(*run)
        with doing("storing it with the sweep's run"):
            with importing_much():
                from shrinkage.tracking import read

            read.keep_report(read.open_to_read(uri), found.parent, files, answer.tags(*pages), answer.one_split(PAGE))
        print(f"They are kept with run {found.parent} too, which has the answer as its description.")


if __name__ == "__main__":
    main()
