"""Write the laboratory, one page that needs no network and no server.

shrinkage lab              writes lab.html
shrinkage lab docs/x.html  writes another file
"""

import argparse
from pathlib import Path

from shrinkage.boundary import command_in_one_line
from shrinkage.errors import InputError

from .page import write_page


def main() -> None:
    """Write the page where the command says."""
    parser = argparse.ArgumentParser(
        prog="python -m shrinkage_studies.lab", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("file", nargs="?", default="lab.html", type=Path, help="the page to write (lab.html)")
    file: Path = parser.parse_args().file
    with command_in_one_line():
        write(file)
        print(f"Open {file.resolve().as_uri()} in a browser: the chapter's problem, with sliders.")


def write(file: Path) -> None:
    """Write the page into a file. Raises InputError if it cannot be written there."""
    try:
        file.write_text(write_page(), encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"{file}: cannot be written ({error.strerror}); name a file in a folder that is there"
        ) from error


if __name__ == "__main__":
    main()
