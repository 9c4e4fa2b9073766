"""`python -m relaxon` is the `relaxon` command."""

from __future__ import annotations

import sys

from relaxon.cli import main

if __name__ == "__main__":
    sys.exit(main())
