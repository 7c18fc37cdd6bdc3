"""What the documentation's site has beside its pages: the laboratory, written when the site is built."""

from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from shrinkage_studies.lab.page import write_page


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the laboratory to the files of the site."""
    files.append(File.generated(config, "lab.html", content=write_page()))
    return files


def on_post_page(output: str, **about: Any) -> str:
    """Give the theme's search dialog a name for those who do not see it."""
    return output.replace('role="dialog"', 'role="dialog" aria-label="Search"', 1)
