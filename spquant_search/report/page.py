"""The page report.html: one file that shows a whole run, opens offline and asks nothing of any network.

What it draws is a document (``page_data.py``); how, says the script in the folder ``page``. The page's own policy
lets a browser run that script alone, by its checksum, and load nothing.
"""

from __future__ import annotations

import base64
import hashlib
import re
from html import escape
from pathlib import Path

from spquant_search.report.page_data import PageSource, page_document, page_json
from spquant_search.report.text_table import one_line
from spquant_search.runs.files import write_text

_PARTS = Path(__file__).parent / "page"
# In their order: each uses those before it alone.
SCRIPTS = (
    "select.js",
    "words.js",
    "drawing.js",
    "front.js",
    "budgets.js",
    "layers.js",
    "search.js",
    "table.js",
    "page.js",
)


def write_page(source: PageSource, path: Path) -> None:
    """Write the page at ``path``, whole or not at all."""
    write_text(path, page_html(source))


def page_html(source: PageSource) -> str:
    """Return the page; equal results give equal pages."""
    script = page_script()
    checksum = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    parts = {
        "title": escape(f"{one_line(source.summary.run)}: accuracy against cost"),
        "checksum": checksum,
        "style": _part("page.css"),
        "document": page_json(page_document(source)),
        "script": script,
    }
    # In one pass: what is filled in is not looked through again.
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _part("page.html"))


def page_script() -> str:
    """Return the page's whole script, which holds nothing of any run."""
    return "\n".join(['"use strict";', *map(_part, SCRIPTS)])


def _part(name: str) -> str:
    return (_PARTS / name).read_text(encoding="utf-8")
