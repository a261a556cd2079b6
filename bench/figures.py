"""What was measured, as one Markdown table, and where that table stands in the docs."""

from dataclasses import dataclass

BEGIN = "<!-- bench: begin -->"
END = "<!-- bench: end -->"
#: The same around the table of the webhook.
WEBHOOK_BEGIN = "<!-- bench of the webhook: begin -->"
WEBHOOK_END = "<!-- bench of the webhook: end -->"


class TableError(Exception):
    """The document has no place for the table."""


@dataclass(frozen=True)
class Figure:
    """One figure, and what was measured beside it in the same run.

    Memory and files are in MB of 10**6 bytes, times in seconds or milliseconds.
    """

    name: str
    value: float
    unit: str
    #: What design allows at most, in the same unit; none: measured without a target.
    limit: float | None = None
    #: The same figure of the thing named by `peer`, in the same unit.
    beside: float | None = None
    peer: str = ""
    #: How far single measurements lay apart.
    spread: str = ""

    @property
    def is_missed(self) -> bool:
        return self.limit is not None and self.value > self.limit


def table(figures: list[Figure]) -> str:
    """The Markdown table."""
    lines = ["| figure | target | measured | beside it, in the same run | ratio |", "|---|---|---|---|---|"]
    return "\n".join(lines + [_row(figure) for figure in figures]) + "\n"


def put(document: str, content: str, begin: str = BEGIN, end: str = END) -> str:
    """The document with `content` between its markers in place of what stands there."""
    if document.count(begin) != 1 or document.count(end) != 1 or document.index(begin) > document.index(end):
        raise TableError(f"the document needs the line {begin} and, below it, {end}")
    before, rest = document.split(begin)
    return f"{before}{begin}\n{content.strip()}\n{end}{rest.split(end)[1]}"


def amount(value: float, unit: str) -> str:
    """A figure with its unit, to three digits or so."""
    digits = 0 if value >= 100 or value == int(value) else 1 if value >= 10 else 2
    return f"{value:,.{digits}f} {unit}".rstrip()


def _row(figure: Figure) -> str:
    target = "" if figure.limit is None else f"≤ {amount(figure.limit, figure.unit)}"
    measured = amount(figure.value, figure.unit) + (f" ({figure.spread})" if figure.spread else "")
    measured += ", **missed**" if figure.is_missed else ""
    beside = "" if figure.beside is None else f"{amount(figure.beside, figure.unit)}: {figure.peer}"
    ratio = f"{figure.value / figure.beside:.2f}" if figure.beside else ""
    return f"| {figure.name} | {target} | {measured} | {beside} | {ratio} |"
