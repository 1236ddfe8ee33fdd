"""An independent judge of DRAM command logs: rules straight from the device YAML, checked by a naive loop."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import yaml

DEVICES = Path(__file__).parents[1] / "tetrasim" / "hw_targets" / "common" / "dram" / "devices"


@dataclass(frozen=True)
class Logged:
    """One command; `address` is its position below each level, outermost first, as far as it addresses."""

    clock: int
    command: str
    address: tuple[int, ...]


@dataclass(frozen=True)
class Rules:
    levels: tuple[str, ...]
    cycles: dict[str, int]
    table: tuple[tuple[int, tuple[str, ...], tuple[str, ...], int, int], ...]


def read_rules(device: str, timing: dict[str, int] | None = None) -> Rules:
    """Rules of a shipped device, read without the package's own reader."""
    tree = yaml.safe_load((DEVICES / f"{device}.yaml").read_text(encoding="utf-8"))
    parts = [tree]
    while "based_on" in parts[0]:
        parts.insert(
            0, yaml.safe_load((DEVICES / f"{parts[0]['based_on']}.yaml").read_text(encoding="utf-8"))
        )
    names: dict[str, int] = {}
    cycles: dict[str, int] = {}
    levels: tuple[str, ...] = ()
    rows: list[dict[str, object]] = []
    for part in parts:
        levels = tuple(part.get("levels", dict.fromkeys(levels)))
        for name, value in part.get("timing", {}).items():
            names[name] = value["value"] if isinstance(value, dict) else value
        for name, value in part.get("commands", {}).items():
            cycles[name] = value.get("cycles", 1)
        rows += part.get("constraints", [])
    names.update(timing or {})
    table = []
    for row in rows:
        text = str(row["min_gap"])
        assert re.fullmatch(r"[A-Za-z0-9_+\-*/(), ]+", text)
        gap = eval(text, {"__builtins__": {}, "max": max, "min": min}, names)
        at = levels.index(row["level"])
        table.append((at, tuple(row["before"]), tuple(row["after"]), gap, row.get("window", 1)))
    return Rules(levels, cycles, tuple(table))


def violations(log: list[Logged], rules: Rules) -> list[str]:
    """Every broken rule, in words; an empty list is a legal log."""
    found: list[str] = []
    for i, now in enumerate(log):
        if i and now.clock <= log[i - 1].clock:
            found.append(f"{now} does not come after {log[i - 1]}")
        for level, before, after, gap, window in rules.table:
            if now.command not in after or len(now.address) <= level:
                continue
            here = now.address[: level + 1]
            for name in before:
                seen = 0
                for past in reversed(log[:i]):
                    if now.clock - past.clock > gap + 8:
                        break
                    if past.command == name and past.address[: level + 1] == here:
                        seen += 1
                        if seen == window:
                            least = gap + rules.cycles[name] - rules.cycles[now.command]
                            if now.clock - past.clock < least:
                                found.append(f"{now} {now.clock - past.clock} < {least} after {past}")
                            break
    return found


def row_violations(log: list[Logged], columns: tuple[str, ...], bank_columns: tuple[str, ...]) -> list[str]:
    """All-bank columns need all rows open, single-bank ones an open row; refresh and ACT closed rows."""
    found: list[str] = []
    state = "closed"
    for now in log:
        if now.command in ("ACT16", "ACTab", "ACT"):
            if state != "closed":
                found.append(f"{now} while {state}")
            state = "one" if now.command == "ACT" else "all"
        elif now.command in ("ACT4", "PREA", "PREab", "PREpb"):
            state = "all" if now.command == "ACT4" else "closed"
        else:
            needed = now.command in columns and state != "all"
            needed = needed or (now.command in bank_columns and state == "closed")
            if needed or (now.command in ("REFab", "REFpb") and state != "closed"):
                found.append(f"{now} while {state}")
    return found
