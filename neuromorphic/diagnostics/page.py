"""The page that `relaxon diagnose` writes: one HTML file that needs nothing else to be read."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relaxon._version import __version__
from relaxon.neuromorphic.diagnostics.drawable import Drawable
from relaxon.neuromorphic.diagnostics.examination import HIDDEN, Examined
from relaxon.neuromorphic.diagnostics.geometry import RepresentationGeometry
from relaxon.neuromorphic.diagnostics.scores import RowScores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
SHOWN_COLUMNS = 6
"""Columns of a table that are shown of a row."""
DPI = 90
ENLARGED = 6
"""Pixels on the page for one of a small image."""
STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1b1b1b;background:#fff}
h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2.2rem}table{border-collapse:collapse;margin:.6rem 0}
th,td{text-align:left;padding:.2rem .8rem .2rem 0;border-bottom:1px solid #ddd;font-variant-numeric:tabular-nums}
figure{margin:1rem 0}img{max-width:100%}img.row{image-rendering:pixelated;vertical-align:middle}
p.note{color:#555}
"""


@dataclass(frozen=True, slots=True)
class PageData:
    """What is said of the data beside the results: names, columns, and the shape of a row that is an image."""

    model: str
    data: str
    columns: Sequence[str]
    X: Array = field(repr=False)
    y: NDArray[Any] = field(repr=False)
    image: tuple[int, int] | None


def render_page(data: PageData, found: Examined, shown: int) -> str:
    """Return the page as HTML, with `shown` rows in each list; pictures are left out where matplotlib is missing."""
    title = f"{data.model} on {data.data}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        _write_summary(data, found),
        "<h2>Rows that look mislabelled</h2>"
        if found.early.given is not None
        else "<h2>Rows far from their target</h2>",
        _list_suspects(data, found, shown),
        "<h2>Rows that matter most</h2>",
        "<p class=note>The longest gradients under the stored model (GraNd): these rows would move its parameters "
        "most. Rows that are hard and right are what training lives on; rows that are wrong stand here too.</p>",
        _write_rows(data, found.gradient, found.gradient.highest(shown)),
        *_draw_pictures(found),
        _describe_hidden(found.hidden),
        f"<p class=note>Written by relaxon {escape(__version__)}. Row numbers count from 0. Early scores are those of "
        f"{found.early.models} networks with {HIDDEN} hidden units, trained anew on these rows for few epochs.</p>",
    ]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style></head><body>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def _write_summary(data: PageData, found: Examined) -> str:
    said = [f"{len(data.X):,} rows, {len(data.columns):,} columns."]
    if found.accuracy is not None:
        said.append(f"The stored model predicts {100 * found.accuracy:.2f} % of them as labelled.")
        suspects = len(found.early.suspects())
        said.append(
            f"{suspects} rows ({100 * suspects / len(data.X):.1f} %) are predicted as another class by the mean of the "
            "early networks."
        )
    else:
        said.append(f"Root mean square error of the stored model: {found.rmse:.4g}.")
    values = found.coherence.values
    said.append(
        f"m-coherence in training, of at most {found.coherence.rows:,}: {values[0]:.3g} at the start, {values[1]:.3g} "
        f"after one epoch, {values[-1]:.3g} after {len(values) - 1}. Labels without a pattern are near 1 from the "
        "first epochs on; others come there when most rows are fitted."
    )
    return "<p>" + escape(" ".join(said)) + "</p>"


def _list_suspects(data: PageData, found: Examined, shown: int) -> str:
    early = found.early
    if early.given is None:
        note = "The largest residuals of networks trained for few epochs, in deviations of the target."
        return f"<p class=note>{note}</p>" + _write_rows(data, early, early.highest(shown))
    rows = early.suspects()[:shown]
    if not len(rows):
        return "<p>None: every row is predicted as its own class.</p>"
    note = (
        "Rows that networks trained for few epochs predict as another class, the highest EL2N first (at most √2). "
        "Look at them: some are wrong, some are hard."
    )
    return f"<p class=note>{note}</p>" + _write_rows(data, early, rows)


def _write_rows(data: PageData, scores: RowScores, rows: NDArray[np.int64]) -> str:
    names = list(data.columns[:SHOWN_COLUMNS])
    many = scores.models > 1
    heads = ["row", scores.name, *(["±"] if many else []), "label"] + (
        ["predicted", "probability"] if scores.given is not None else []
    )
    heads += ["image"] if data.image else names
    lines = ["<table><tr>" + "".join(f"<th>{escape(str(head))}</th>" for head in heads) + "</tr>"]
    for row in rows.tolist():
        spread = [f"{scores.spread[row]:.3f}"] if many else []
        cells = [str(row), f"{scores.scores[row]:.3f}", *spread, str(data.y[row])]
        if scores.given is not None:
            likeliest = int(scores.predicted[row].argmax())
            cells += [str(scores.label(likeliest)), f"{scores.predicted[row, likeliest]:.2f}"]
        if data.image:
            shown = [*map(escape, cells), _embed_thumbnail(data.X[row].reshape(data.image))]
        else:
            values = np.ravel(data.X[row])[: len(names)]
            shown = [*map(escape, cells), *(f"{value:.4g}" for value in values)]
        lines.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in shown) + "</tr>")
    return "\n".join([*lines, "</table>"])


def _draw_pictures(found: Examined) -> list[str]:
    """Return the curves, each with a heading and a sentence; one sentence where matplotlib is missing."""
    shown: list[tuple[str, str, Drawable]] = [
        ("Scores of the rows, early in training", "Wrong labels gather at the left end.", found.early),
        ("Coherence of gradients over the epochs", "1 where each row pulls its own way.", found.coherence),
        ("Two groups of rows that pull apart", _describe_groups(found), found.opposing),
        ("Hidden layer over the epochs", "Centred kernel alignment of the reference network.", found.geometry),
    ]
    parts = []
    for heading, note, result in shown:
        try:
            figure = result.plot()
        except ModuleNotFoundError as error:
            return [f"<p>No pictures: {escape(str(error))}</p>"]
        parts.append(f"<h2>{heading}</h2><p class=note>{escape(note)}</p>{_embed(figure, heading)}")
    return parts


def _describe_hidden(found: RepresentationGeometry | None) -> str:
    """Return the alignments of the stored model's own hidden layers as a table."""
    if found is None:
        return ""
    lines = "".join(
        f"<tr><td>{escape(name)}</td><td>{inputs:.3f}</td><td>{targets:.3f}</td></tr>"
        for name, inputs, targets in zip(found.layers, found.inputs[0], found.targets[0], strict=True)
    )
    return (
        "<h2>Hidden layers of the stored model</h2><p class=note>Centred kernel alignment; that of the inputs with the "
        f"targets is {found.baseline:.3f}.</p><table><tr><th>layer</th><th>with the inputs</th>"
        f"<th>with the targets</th></tr>{lines}</table>"
    )


def _describe_groups(found: Examined) -> str:
    rising, falling = (", ".join(map(str, rows[:10].tolist())) for rows in found.opposing.groups)
    return (
        f"From epoch {found.opposing.step + 1} to the next the losses of rows {rising} rose furthest, and those of "
        f"rows {falling} fell furthest."
    )


def _embed(figure: Figure, heading: str) -> str:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI)
    text = base64.b64encode(file.getvalue()).decode("ascii")
    return f'<figure><img alt="{escape(heading)}" src="data:image/png;base64,{text}"></figure>'


def _embed_thumbnail(image: Array) -> str:
    """Return a small grey image as an HTML element, its darkest value white."""
    low, high = float(image.min()), float(image.max())
    grey = np.round(255 * (high - image) / (high - low if high > low else 1.0)).astype(np.uint8)
    height, width = grey.shape
    text = base64.b64encode(_encode_png(grey)).decode("ascii")
    scale = max(1, min(ENLARGED, 64 // max(height, width)))
    return (
        f'<img class="row" alt="" width="{width * scale}" height="{height * scale}" src="data:image/png;base64,{text}">'
    )


def _encode_png(grey: NDArray[np.uint8]) -> bytes:
    """Return an 8-bit grey image as a PNG file."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width = grey.shape
    lines = b"".join(b"\0" + grey[row].tobytes() for row in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
