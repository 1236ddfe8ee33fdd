"""`tetrasim dse` from a file to a trial's report: run, stop and go on, status, report, show; exit codes."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tetrasim.cli import dse

STUDY = """
name: cli
model: {preset: digits-tiny}
targets:
  cpu/xeon-6154: {core.clock_hz: {low: 1000000000, high: 4000000000}}
  gpu/t4: {launch: [graph, eager]}
objectives: [latency_us, usd_per_million_runs]
prices:
  cpu/xeon-6154: {usd_per_hour: 0.4, source: a test}
  gpu/t4: {usd: 900, source: a test}
ownership: {years: 4, busy_share: 0.5, usd_per_kwh: 0.15, source: a test}
search: {sampler: random, trials: 12, seed: 1}
"""


def run(*words: str) -> Result:
    return CliRunner().invoke(dse.app, list(words), catch_exceptions=True)


@pytest.fixture
def study(tmp_path: Path) -> tuple[str, Path]:
    file = tmp_path / "study.yaml"
    file.write_text(STUDY)
    return str(file), tmp_path / "out"


def test_a_study_from_file_to_report(study: tuple[str, Path]) -> None:
    file, folder = study
    first = run("run", file, "-o", str(folder), "--trials", "6", "--quiet", "--json")
    assert first.exit_code == 0, first.output
    assert json.loads(first.stdout)["trials"] == 6
    more = json.loads(run("run", file, "-o", str(folder), "--quiet", "--json").stdout)
    assert (more["trials"], more["running"], more["failed"]) == (12, 0, 0)
    status = run("status", str(folder))
    assert "cli: 12 trials (12 feasible, 0 impossible)" in status.stdout
    assert "usd_per_million_runs" in status.stdout
    written = json.loads(run("report", str(folder), "--json").stdout)
    rows = Path(written["front"]).read_text().splitlines()
    assert len(rows) == 1 + len(more["front"])
    assert "900 USD (a test)" in Path(written["report"]).read_text()
    trial = more["front"][0]
    shown = run("show", str(folder), str(trial["trial"]), "--json")
    assert shown.exit_code == 0, shown.output
    assert (folder / f"trial-{trial['trial']}" / "index.html").is_file()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("status", "nowhere"), "not a study folder"),
        (("run", "nowhere.yaml"), "cannot read"),
    ],
)
def test_mistakes_are_the_users(words: tuple[str, ...], says: str) -> None:
    result = run(*words)
    assert result.exit_code != 0
    assert says in str(result.exception)
