"""The measurements, written as they come in: a JSON file for programs and a Markdown table for people."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from semantic_edit.disk.writing import write_folder

GOALS = "| part | what | measured | goal | |\n| --- | --- | --- | --- | --- |"
OTHERS = "| part | what | measured |\n| --- | --- | --- |"


@dataclass(frozen=True)
class Figure:
    """One measurement.

    value: The median; `low` and `high` are the range, if it was measured more than once.
    unit: Of all three; "x" means how many times as fast.
    at_most, at_least: The goal, if there is one.
    """

    what: str
    value: float
    unit: str = "s"
    low: float | None = None
    high: float | None = None
    at_most: float | None = None
    at_least: float | None = None
    section: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal was reached; `None` if there is none."""
        if self.at_most is None and self.at_least is None:
            return None
        return (self.at_most is None or self.value <= self.at_most) and (
            self.at_least is None or self.value >= self.at_least
        )

    @property
    def line(self) -> str:
        """The line in a table under `GOALS` or `OTHERS`."""
        measured = f"{number(self.value)} {self.unit}".strip()
        if self.low is not None and self.high is not None and self.low != self.high:
            measured += f" ({number(self.low)} to {number(self.high)})"
        own = f"| {self.section} | {self.what} | {measured} |"
        if self.met is None:
            return own
        goal = "" if self.at_most is None else f"at most {number(self.at_most)}"
        goal = goal if self.at_least is None else f"at least {number(self.at_least)}"
        return f"{own} {goal} | {'met' if self.met else '**missed**'} |"


def number(value: float) -> str:
    """A number with three significant digits and no exponent."""
    if value == 0 or abs(value) >= 100 or value == int(value):
        return f"{value:.0f}"
    return f"{value:.3g}" if abs(value) >= 0.001 else f"{value:.1e}"


def figure(
    what: str,
    values: Sequence[float],
    unit: str = "s",
    factor: float = 1,
    at_most: float | None = None,
    at_least: float | None = None,
) -> Figure:
    """The median and range of some values, each multiplied by a factor."""
    scaled = [factor * value for value in values]
    middle, low, high = statistics.median(scaled), min(scaled), max(scaled)
    return Figure(what, middle, unit, low, high, at_most=at_most, at_least=at_least)


@dataclass
class Report:
    """All measurements, kept in a folder.

    machine: Names and versions of what it ran on.
    failures: The reason for each section that did not finish.
    seconds: The time of each section.
    tests: The last lines that pytest printed, if it ran before.
    """

    folder: Path
    machine: dict[str, Any]
    figures: list[Figure] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    tests: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def add(self, section: str, found: Figure) -> None:
        """Record one figure, also on disk."""
        found = replace(found, section=section)
        self.figures.append(found)
        self.say(found.line)
        self.write()

    def say(self, text: str) -> None:
        """Print one line of progress, with the seconds since the start."""
        print(f"[{time.monotonic() - self.started:6.1f} s] {text}", flush=True)

    @property
    def table(self) -> str:
        """Markdown."""
        lines: list[str] = []
        for header, has_goal in ((GOALS, True), (OTHERS, False)):
            own = [found.line for found in self.figures if (found.met is not None) == has_goal]
            lines += [header, *own, ""] if own else []
        if self.failures:
            lines += ["| part | did not end |", "| --- | --- |"]
            lines += [
                f"| {section} | {text.strip().splitlines()[-1].replace('|', '/')} |"
                for section, text in self.failures.items()
            ]
            lines.append("")
        if self.tests:
            told = [line for line in self.tests if line.startswith(("FAILED", "ERROR"))]
            lines += [f"Tests: {self.tests[-1].strip('= ')}.", *(f"- {line}" for line in told)]
        machine = ", ".join(f"{name} {value}" for name, value in self.machine.items())
        return f"{machine}; medians, ranges in brackets.\n\n" + "\n".join(lines).rstrip() + "\n"

    def write(self) -> None:
        """Write both files, completely or not at all."""
        everything = {
            "machine": self.machine,
            "figures": [{**asdict(found), "met": found.met} for found in self.figures],
            "failures": self.failures,
            "seconds": self.seconds,
            "tests": self.tests,
        }
        texts = {"gpu.json": json.dumps(everything, indent=1), "gpu.md": self.table}
        write_folder(self.folder, {name: text.encode() for name, text in texts.items()})

    @classmethod
    def read(cls, path: Path) -> Report:
        """Read the JSON file that `write` wrote."""
        stored = json.loads(path.read_text())
        figures = [Figure(**{k: v for k, v in one.items() if k != "met"}) for one in stored["figures"]]
        names = ("failures", "seconds", "tests")
        return cls(path.parent, stored["machine"], figures, **{name: stored[name] for name in names})
