"""A page to look at the results of a batch: each edit with its picture before, after and, if kept, its mask."""

from __future__ import annotations

import base64
import html
import io
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from semantic_edit.batch.rows import Picture
from semantic_edit.disk.images import UnreadableImage, decoded_image
from semantic_edit.disk.telling import counted

MOST_SHOWN = 500
THUMBNAIL = 256  # pixels
STYLE = (
    "body{font:16px/1.45 system-ui,sans-serif;color:#1a1a1a;margin:0;padding:1.5rem}h1{margin:0;overflow-wrap:anywhere}"
    "p{margin:.35rem 0;overflow-wrap:anywhere}header{margin-bottom:1.5rem}main{display:grid;gap:1.75rem 1.5rem;"
    "grid-template-columns:repeat(auto-fill,minmax(min(100%,calc(var(--pictures)*10.5rem)),1fr))}"
    ".pictures{display:grid;grid-auto-flow:column;grid-auto-columns:1fr;gap:.5rem;align-items:start}"
    "figure{margin:0}img{display:block;width:100%;height:auto;max-height:22rem;object-fit:contain;"
    "object-position:0 0;box-shadow:0 0 0 1px #ddd}figcaption,.more{font-size:.85rem;color:#5a5a5a}"
    ".bad{color:#a00000}@media(max-width:30rem){body{padding:1rem}}"
)


@dataclass(frozen=True)
class ResultPage:
    """What a page shows.

    folder: Of the batch.
    rows: All results, in order; only the first of them are shown.
    settings: What the batch was started with.
    before: The pictures that were edited, by the row's name, as far as they are known.
    """

    folder: Path
    rows: Sequence[Mapping[str, Any]]
    settings: Mapping[str, Any] = field(default_factory=dict)
    before: Mapping[str, Picture] = field(default_factory=dict)

    @property
    def shown(self) -> Sequence[Mapping[str, Any]]:
        """The rows that are shown."""
        return self.rows[:MOST_SHOWN]

    def content(self) -> bytes:
        """The page as a file that needs no other."""
        name, told = self.folder.resolve().name, [*self._told()]
        articles = [self._article(row) for row in self.shown]
        most = max([1, *(article.count("<img") for article in articles)])
        header = f"<h1>{html.escape(name)}</h1>" + "".join(f"<p>{html.escape(line)}</p>" for line in told)
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width,initial-scale=1">'
            f"<title>{html.escape(f'{name}: {told[0]}')}</title><style>{STYLE}</style></head><body>\n"
            f'<header>{header}</header>\n<main style="--pictures:{most}">\n'
            + "\n".join(articles)
            + "\n</main>\n"
            "</body></html>\n"
        ).encode(errors="backslashreplace")

    def _told(self) -> Iterator[str]:
        """Lines about the whole batch."""
        edits = [row for row in self.rows if "error" not in row]
        bad = len(self.rows) - len(edits)
        line = counted(len(edits), "edit") + (f", {counted(bad, 'row')} left out" if bad else "")
        if len(self.shown) < len(self.rows):
            line += f"; the first {len(self.shown)} are shown here, the table has all"
        yield line
        names = sorted({str(row.get("model_name") or row["model"]) for row in edits if "model" in row})
        made = {
            "method": self.settings.get("method"),
            "model": ", ".join(names),
            "precision": self.settings.get("dtype"),
            "schedule": self.settings.get("schedule"),
            "seed": self.settings.get("seed"),
            **(self.settings.get("options") or {}),
        }
        yield ", ".join(f"{name} {value}" for name, value in made.items() if value not in (None, ""))

    def _article(self, row: Mapping[str, Any]) -> str:
        place = html.escape(", ".join(str(row[key]) for key in ("name", "where") if key in row))
        if "error" in row:
            return f'<article><p class="bad">{html.escape(str(row["error"]))}</p><p class="more">{place}</p></article>'
        source, prompt = (html.escape(row[name]) for name in ("source_prompt", "prompt"))
        words = f"{source} → <b>{prompt}</b>" if source else f"<b>{prompt}</b>"
        figures = "".join(
            f'<figure><img loading="lazy" alt="{caption}" src="{picture}"><figcaption>{caption}</figcaption></figure>'
            for caption, picture in self._pictures(row)
        )
        shown = f'<div class="pictures">{figures}</div>' if figures else ""
        gone = "" if 'alt="after"' in figures else '<p class="bad">the edited picture is gone</p>'
        return f'<article>{shown}{gone}<p>{words}</p><p class="more">{place}</p></article>'

    def _pictures(self, row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """A row's pictures as parts of the page, each with its caption."""
        for caption in ("before", "after", "mask"):
            try:
                if caption == "before":
                    image = self.before[row["name"]].read()
                else:
                    image = _kept_image(self.folder, row, "image" if caption == "after" else "mask")
            except (ValueError, OSError, KeyError, tarfile.TarError):
                continue
            yield caption, _thumbnail(image)


def _kept_image(folder: Path, row: Mapping[str, Any], kind: str) -> Image.Image:
    """One of the pictures that a result names, in the folder or in a shard."""
    if "shard" not in row:
        return decoded_image(folder / row[kind])
    with tarfile.open(folder / row["shard"]) as shard:
        member = shard.extractfile(row[kind])
        if member is None:
            raise UnreadableImage("is no file")
        return decoded_image(member.read())


def _thumbnail(image: Image.Image) -> str:
    """A small picture as an address that holds all of it."""
    small = image.convert("RGB")
    small.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.BICUBIC)
    content = io.BytesIO()
    small.save(content, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"
