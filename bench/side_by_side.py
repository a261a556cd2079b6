"""Figures of several servers of one run, as one Markdown table: ours first, then each of the others with its ratio."""

from dataclasses import dataclass

from figures import amount


@dataclass(frozen=True)
class Row:
    """One figure of every server, in `unit`."""

    name: str
    unit: str
    #: By the server's name; ours is the first.
    values: dict[str, float]
    #: What design allows ours at most.
    limit: float | None = None
    #: What it allows ours as a part of what another takes: the name of that one, and the part. Not said where it wasn't measured.
    part: tuple[str, float] | None = None

    @property
    def allowed(self) -> float | None:
        """The most that ours may be."""
        if self.part and self.part[0] in self.values:
            return self.part[1] * self.values[self.part[0]]
        return self.limit

    @property
    def is_missed(self) -> bool:
        ours = next(iter(self.values.values()))
        return self.allowed is not None and ours > self.allowed


def table(rows: list[Row]) -> str:
    """The Markdown table; all rows are of the same servers."""
    ours, *others = rows[0].values
    head = ["figure", "target", ours, *(column for other in others for column in (other, "ratio"))]
    lines = [_line(head), "|" + "---|" * len(head)]
    return "\n".join(lines + [_line(_cells(row)) for row in rows]) + "\n"


def _cells(row: Row) -> list[str]:
    ours, *others = row.values.values()
    measured = amount(ours, row.unit) + (", **missed**" if row.is_missed else "")
    beside = (cell for other in others for cell in (amount(other, row.unit), f"{ours / other:.2f}" if other else ""))
    return [row.name, "" if row.allowed is None else f"≤ {amount(row.allowed, row.unit)}", measured, *beside]


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
