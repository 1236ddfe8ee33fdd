"""Replay DRAM cases against their expected clocks, or a trace on any device file."""

from __future__ import annotations

import json as json_text
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tetrasim.cli import _options, _tables

if TYPE_CHECKING:
    from tetrasim.hw_targets.common.dram.replay import Outcome

app = _options.new_app()
ExactSlow = Annotated[
    bool, typer.Option("--exact-slow", help="Issue every command one by one: all speed-ups off.")
]


@app.command()
def replay(
    cases: Annotated[Path, typer.Argument(help="A JSON file of cases.")],
    id: Annotated[str | None, typer.Option("--id", help="Only this case.")] = None,
    exact_slow: ExactSlow = False,
    json: _options.Json = False,
) -> None:
    """Run the cases of CASES and compare clocks, checksums and counts; exit 2 when one differs."""
    from tetrasim.hw_targets.common.dram.replay import replay as run

    outcomes = run(cases, id, exact_slow=exact_slow)
    if json:
        _options.out(json_text.dumps([_record(o) for o in outcomes], indent=1))
    else:
        _options.out(_tables.text([_row(o) for o in outcomes]))
        _options.out(f"{sum(o.match for o in outcomes)} of {len(outcomes)} match")
    if not all(o.match for o in outcomes):
        raise typer.Exit(2)


@app.command()
def trace(
    file: Annotated[
        Path, typer.Argument(help="CSV with a column 'command' or 'request', and bg, bank, row.")
    ],
    device: Annotated[str, typer.Option(help="A shipped device, or the path of a .yaml file.")] = "gddr6",
    refresh_every: Annotated[int, typer.Option(help="Requests between all-bank refreshes.", min=0)] = 0,
    refresh: Annotated[
        str, typer.Option(help="Refresh in time, of a trace of requests: none, all_bank or per_bank.")
    ] = "none",
    postpone: Annotated[int, typer.Option(help="Intervals that a due refresh may wait.", min=0)] = 0,
    output: _options.Output = None,
    json: _options.Json = False,
) -> None:
    """Write the issue clock of every command of FILE on a device, as CSV (clock,command,bank,row)."""
    from tetrasim.files.write import check_file, write_file
    from tetrasim.hw_targets.common.dram.refresh import refresh_of
    from tetrasim.hw_targets.common.dram.trace import run_trace
    from tetrasim.hw_targets.common.dram.yaml_device import find_device

    if output is not None:
        check_file(output)
    found = find_device(device)
    done = run_trace(file, found, refresh_every=refresh_every, refresh=refresh_of(found, refresh, postpone))
    for warning in done.warnings:
        sys.stderr.write(f"warning: {warning}\n")
    rows = done.rows
    if json:
        text = json_text.dumps(
            [{"clock": r.clock, "command": r.command, "bank": r.bank, "row": r.row} for r in rows], indent=1
        )
    else:
        lines = ["clock,command,bank,row", *(f"{r.clock},{r.command},{r.bank},{r.row}" for r in rows)]
        text = "\n".join(lines)
    if output is None:
        _options.out(text)
    else:
        write_file(output, text + "\n")


@app.command()
def devices(json: _options.Json = False) -> None:
    """List the DRAM devices that ship, with their clock and organisation."""
    from tetrasim.hw_targets.common.dram.refresh import refresh_modes
    from tetrasim.hw_targets.common.dram.yaml_device import device_names, find_device

    rows: list[_tables.Row] = []
    for name in device_names():
        device = find_device(name)
        rows.append(
            {
                "device": name,
                "title": device.title,
                "tCK_ps": device.tck_ps,
                "banks": device.banks,
                "row_bytes": device.row_bytes,
                "refresh": ", ".join(refresh_modes(device)),
                "constraints": len(device.constraints),
            }
        )
    _options.out(json_text.dumps(rows, indent=1) if json else _tables.text(rows))


def _record(outcome: Outcome) -> dict[str, object]:
    record: dict[str, object] = {
        "id": outcome.id,
        "cycles": outcome.cycles,
        "expected": outcome.expected,
        "match": outcome.match,
        "seconds": round(outcome.seconds, 6),
    }
    record.update({k: v for k, v in outcome.got.items() if k not in record})
    if outcome.reason:
        record["reason"] = outcome.reason
    return record


def _row(outcome: Outcome) -> _tables.Row:
    return {
        "id": outcome.id,
        "kind": outcome.kind,
        "cycles": "-" if outcome.cycles is None else str(outcome.cycles),
        "expected": "-" if outcome.expected is None else str(outcome.expected),
        "checksum": str(outcome.got.get("checksum", "-")),
        "match": outcome.match,
        "ms": outcome.seconds * 1e3,
        "reason": outcome.reason,
    }
