"""Prepares the pages of docs/ for the site: marks interactive sessions, and keeps numbers with their deviations."""

from __future__ import annotations

import re
from typing import Any

SESSION = re.compile(r"^```python\n(?=>>> )", re.M)


def on_page_markdown(markdown: str, **kwargs: Any) -> str:
    """Return a page with its sessions marked as such and its deviations bound to their numbers.

    A block that begins with a prompt is a session, in which input and output look different.
    """
    return SESSION.sub("```pycon\n", markdown).replace(" ± ", "\u00a0±\u00a0")
