"""Insert the measurements into docs/gpu.md: `python -m benchmarks.on_gpu.document OUT/gpu.json`."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.on_gpu.report import Report
from semantic_edit.disk.writing import write_file

PAGE = Path(__file__).parents[2] / "docs" / "gpu.md"
FIRST, LAST = "<!-- measured -->", "<!-- end -->"


def write_into(page: Path, stored: Path) -> None:
    """Replace the text between the page's two markers by the table from a JSON file."""
    before, _, rest = page.read_text().partition(FIRST)
    _, _, after = rest.partition(LAST)
    write_file(page, f"{before}{FIRST}\n\n{Report.read(stored).table}\n{LAST}{after}".encode())


if __name__ == "__main__":
    write_into(PAGE, Path(sys.argv[1]))
