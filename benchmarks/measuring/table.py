"""What was asked beside what was measured: rows, their table, and the JSON that keeps every round."""

import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Row:
    """One line of the table. `values`: one a round, or one a sample."""

    name: str
    asked: float | None  # at most; None: beside the others, for comparison
    unit: str  # x, ns, us, ms, s, %, or "" for a number of something
    values: list[float] = field(repr=False)
    percent: int = 50  # which percentile is held against what is asked

    @property
    def measured(self) -> float:
        return percentile(self.values, self.percent)

    @property
    def met(self) -> bool | None:
        return None if self.asked is None else self.shown(self.measured) <= self.asked

    def shown(self, value: float) -> float:
        if self.unit == "ns" and value < 10:
            return round(value, 2)
        return round(value, {"x": 3, "ns": 1, "%": 3, "s": 2, "": 4}.get(self.unit, 1))


def percentile(values: Sequence[float], percent: int) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def table(rows: Sequence[Row]) -> str:
    lines = [("", "at most", "measured", "p5 - p95", "rounds", "")]
    for row in rows:
        low, high = (row.shown(percentile(row.values, p)) for p in (5, 95))
        met = {None: "", True: "met", False: "NOT MET"}[row.met]
        asked = "" if row.asked is None else f"{row.asked:g} {row.unit}".rstrip()
        spread = f"{low} - {high}" if len(row.values) > 1 else ""
        measured = f"{row.shown(row.measured)} {row.unit}".rstrip()
        lines.append((row.name, asked, measured, spread, str(len(row.values)), met))
    widths = [max(len(line[i]) for line in lines) for i in range(6)]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if i in (0, 5) else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def machine() -> dict[str, str]:
    """What the figures were taken on."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    source = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")
    return {
        "cpu": cpu,
        "cpus": str(os.cpu_count()),
        "kernel": platform.release(),
        "clocksource": source.read_text().strip() if source.exists() else "unknown",
        "python": platform.python_version(),
        "taken": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def save(path: Path, where: dict[str, str], rows: Sequence[Row], **more: Any) -> None:
    """Everything as JSON, `more` beside it, and says in a line what was not met."""
    # A hundred thousand samples say no more than their percentiles.
    kept = [
        row.values if len(row.values) <= 10_000 else [percentile(row.values, p) for p in range(101)]
        for row in rows
    ]
    document = {
        "machine": where,
        **more,
        "rows": [
            {
                **asdict(row),
                "values": values,
                "count": len(row.values),
                "measured": row.measured,
                "met": row.met,
            }
            for row, values in zip(rows, kept, strict=True)
        ],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")
    missed = sum(row.met is False for row in rows)
    print(f"\n{len(rows)} rows, {missed} not met; {path}")
