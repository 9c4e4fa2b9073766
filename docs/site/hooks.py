"""What the site makes of the pages in docs/: prompts told from code, numbers kept whole."""

from __future__ import annotations

import re
from typing import Any

SESSION = re.compile(r"^```python\n(?=>>> )", re.M)


def on_page_markdown(markdown: str, **kwargs: Any) -> str:
    """A block that begins with a prompt is a session: what is typed and what comes back look different.

    A number stays on one line with its deviation.
    """
    return SESSION.sub("```pycon\n", markdown).replace(" ± ", "\u00a0±\u00a0")
