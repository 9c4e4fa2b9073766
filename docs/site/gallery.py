"""The gallery's pages: one for each example, with its source and the picture that it draws.

    python docs/site/gallery.py            # run every example, write its picture and its page
    python docs/site/gallery.py 03 07      # those two only
    python docs/site/gallery.py --pages    # run nothing; write the pages alone
    python docs/site/gallery.py --check    # run nothing; fail where a page is not what its example says

An example's docstring is its page's title and text. The picture is the example's last figure.
"""

from __future__ import annotations

import argparse
import ast
import os
import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "gallery"
PAGES = ROOT / "docs" / "gallery"


def list_examples() -> list[Path]:
    """Return the examples in the order of their numbers."""
    return sorted(EXAMPLES.glob("[0-9][0-9]_*.py"))


def write_page(example: Path) -> str:
    """Return the text of an example's page."""
    source = example.read_text(encoding="utf-8")
    title, text = (ast.get_docstring(ast.parse(source)) or "").split("\n\n", 1)
    code = source.split('"""', 2)[2].lstrip("\n")
    return (
        f"# {int(example.name[:2])}. {title.rstrip('.')}\n\n{text.replace(chr(10), ' ')}\n\n"
        f"![What the example draws]({example.stem}.png)\n\n"
        f"```python\n{code}```\n\n"
        f"Run it with `python examples/gallery/{example.name}`.\n"
    )


def write_index(examples: list[Path]) -> str:
    """Return the text of the gallery's first page: a list of the examples with their pictures."""
    lines = ["# Gallery", "", "Twelve short programs, in the order in which a new user may want to read them.", ""]
    lines += ["| | example |", "|---|---|"]
    for example in examples:
        title = (ast.get_docstring(ast.parse(example.read_text(encoding="utf-8"))) or "").split("\n")[0].rstrip(".")
        picture = f'<img src="{example.stem}.png" width="260" alt="">'
        lines.append(f"| {picture} | {int(example.name[:2])}. [{title}]({example.stem}.md) |")
    return "\n".join(lines) + "\n"


def draw(example: Path) -> None:
    """Run an example and save the figure that it leaves."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    print(f"{example.name}:")
    runpy.run_path(str(example), run_name="__main__")
    pyplot.gcf().savefig(PAGES / f"{example.stem}.png", dpi=90, metadata={"Software": None})
    pyplot.close("all")


def main() -> int:
    """Write the gallery, or check that it is up to date."""
    parser = argparse.ArgumentParser(description="Write the gallery's pages and pictures.")
    parser.add_argument("numbers", nargs="*", help="the numbers of the examples to run; all of them by default")
    parser.add_argument("--pages", action="store_true", help="write the pages alone; run nothing")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a page is out of date")
    options = parser.parse_args()
    examples = list_examples()
    pages = {PAGES / "index.md": write_index(examples)}
    pages |= {PAGES / f"{example.stem}.md": write_page(example) for example in examples}
    if options.check:
        stale = [page.name for page, text in pages.items() if not page.exists() or page.read_text("utf-8") != text]
        stale += [f"{example.stem}.png" for example in examples if not (PAGES / f"{example.stem}.png").exists()]
        if stale:
            print(f"not up to date, run `python docs/site/gallery.py`: {', '.join(stale)}", file=sys.stderr)
        return bool(stale)
    PAGES.mkdir(exist_ok=True)
    for page, text in pages.items():
        page.write_text(text, encoding="utf-8")
    if options.pages:
        return 0
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for example in examples:
        if not options.numbers or example.name[:2] in options.numbers:
            draw(example)
    return 0


if __name__ == "__main__":
    sys.exit(main())
