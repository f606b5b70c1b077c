"""The table: ratios first, absolute figures second, the machine below."""

import statistics
from dataclasses import dataclass


@dataclass
class Figure:
    """One line of the table: a value for each round, and the goal, if any."""

    row: str
    what: str
    values: list
    unit: str = ""
    at_least: float | None = None
    at_most: float | None = None

    @property
    def median(self):
        return statistics.median(self.values)

    def goal(self):
        if self.at_least is not None:
            return f"≥ {number(self.at_least)}"
        return f"≤ {number(self.at_most)}" if self.at_most is not None else ""

    def verdict(self):
        if self.at_least is None and self.at_most is None:
            return ""
        met = self.median >= self.at_least if self.at_least is not None else self.median <= self.at_most
        return "met" if met else "**MISSED**"


def number(value):
    """Formats a number with three significant digits."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


class Report:
    """All figures of a run, in the order of measurement."""

    def __init__(self):
        self.ratios = []
        self.absolutes = []
        self.notes = []
        self.failures = []

    @property
    def broken(self):
        """Returns whether a row could not be measured. A missed goal does not count."""
        return bool(self.failures)

    def ratio(self, row, what, values, at_least=None, at_most=None):
        self.ratios.append(Figure(row, what, list(values), "", at_least, at_most))

    def absolute(self, row, what, values, unit, at_least=None, at_most=None):
        self.absolutes.append(Figure(row, what, list(values), unit, at_least, at_most))

    def note(self, row, text):
        self.notes.append(f"{row}: {text}")

    def failed(self, row, text):
        self.failures.append(f"{row}: {text}")

    def render(self, about, took):
        lines = ["# Results of scripts/bench", "", "Written by `scripts/bench`; `benches/README.md` says what each row means.", ""]
        for failure in self.failures:
            lines += [f"**FAILED** {failure}", ""]
        lines += ["## Ratios", "", *table(self.ratios, unit=False)]
        lines += ["", "## Absolute figures", "", *table(self.absolutes, unit=True)]
        if self.notes:
            lines += ["", "## Notes", "", *(f"- {note}" for note in self.notes)]
        lines += ["", "## Machine", "", *(f"- {line}" for line in about), f"- the whole run took {took:.0f} s"]
        return "\n".join(lines)


def table(figures, unit):
    """Returns a Markdown table with aligned columns, which is readable in a terminal too."""
    head = ["row", "what", "min", "median", "max"] + (["unit"] if unit else []) + ["goal", ""]
    rows = [head]
    for figure in figures:
        cells = [figure.row, figure.what, *map(number, (min(figure.values), figure.median, max(figure.values)))]
        rows.append(cells + ([figure.unit] if unit else []) + [figure.goal(), figure.verdict()])
    widths = [max(len(row[at]) for row in rows) for at in range(len(head))]
    numeric = range(2, 5)

    def line(row):
        cells = (cell.rjust(width) if at in numeric else cell.ljust(width) for at, (cell, width) in enumerate(zip(row, widths)))
        return "| " + " | ".join(cells) + " |"

    rule = "|" + "|".join("-" * (width + 1) + (":" if at in numeric else "-") for at, width in enumerate(widths)) + "|"
    return [line(head), rule, *(line(row) for row in rows[1:])]
