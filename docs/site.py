"""What the documentation's site has beside its pages: the laboratory, written when the site is built."""

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from shrinkage_studies.lab.page import write_page


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the laboratory to the files of the site."""
    files.append(File.generated(config, "lab.html", content=write_page()))
    return files
