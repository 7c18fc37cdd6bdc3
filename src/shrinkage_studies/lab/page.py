"""Put the laboratory's page together: its words, its program and its numbers in one file."""

import json
from importlib import resources

from .problem import everything

PARTS = {
    "/*STYLE*/": "lab.css",
    "/*TRAINING*/": "training.js",
    "/*PICTURES*/": "pictures.js",
    "/*PAGE*/": "lab.js",
}


def write_page() -> str:
    """Return the page as HTML that needs nothing else."""
    room = resources.files("shrinkage_studies.lab")
    page = (room / "page.html").read_text(encoding="utf-8")
    for place, name in PARTS.items():
        page = page.replace(place, (room / name).read_text(encoding="utf-8"))
    return page.replace("/*NUMBERS*/", json.dumps(everything()))
