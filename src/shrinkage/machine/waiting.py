"""What a person sees on a terminal while something takes long."""

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager


@contextmanager
def doing(what: str) -> Generator[Callable[[str], None]]:
    """Show on a terminal what is being done, and nothing elsewhere; gives a function that shows other words."""
    if not sys.stderr.isatty():
        yield lambda words: None
        return
    from rich.console import Console
    from rich.live import Live
    from rich.spinner import Spinner
    from rich.text import Text

    spinner = Spinner("dots", Text(f"{what} …"))
    # What is printed meanwhile appears above it, but for an output that goes into a file, which rich would take away.
    with Live(spinner, console=Console(stderr=True), transient=True, redirect_stdout=sys.stdout.isatty()):
        yield lambda words: spinner.update(text=Text(f"{words} …"))
