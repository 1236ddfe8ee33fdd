"""`tetrasim run` end to end on a small ONNX file: files, sums, traces, repetition, cache."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest
import tiny_onnx
from browser import needs_browser, open_offline
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

from tetrasim.cli import main
from tetrasim.reports import lock

TARGETS = ("gpu/t4", "cpu/xeon-6154", "pim/pim-gpt", "fpga/u280")
COMMAND = ["run", "mlp.onnx", "--dim", "rows=4", "--on", *TARGETS, "--quiet"]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    tiny_onnx.write(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("TETRASIM_CACHE", str(folder / "cache"))
        assert main([*COMMAND, "-o", "first"]) == 0
    return folder


@pytest.fixture(autouse=True)
def _here(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)
    monkeypatch.setenv("TETRASIM_CACHE", str(workplace / "cache"))


def report(folder: str) -> dict[str, list[dict[str, object]]]:
    tree: dict[str, list[dict[str, object]]] = json.loads(
        Path(folder, "report.json").read_text(encoding="utf-8")
    )
    return tree


def test_every_target_has_a_report_whose_parts_sum(workplace: Path) -> None:
    results = report("first")["results"]
    assert [r["preset"] for r in results] == list(TARGETS)
    for r in results:
        latency, phases = r["latency"], r["phases"]
        assert isinstance(latency, dict)
        assert isinstance(phases, list)
        assert latency["value"] > 0
        parts = [share["amount"] for p in phases for share in p["time_shares"]]
        assert math.fsum(parts) == pytest.approx(latency["value"] * 1000, rel=1e-12)
        assert math.fsum(s["fraction"] for s in phases[0]["time_shares"]) == pytest.approx(1.0, abs=1e-12)
        assert math.fsum(s["fraction"] for s in phases[0]["energy_shares"]) == pytest.approx(1.0, abs=1e-9)
    assert (workplace / "first" / "gpu-t4" / "index.html").is_file()


def test_trace_holds_as_many_slices_as_tasks() -> None:
    trace = pb.Trace.FromString(Path("first/trace.pftrace").read_bytes())
    slices = sum(p.track_event.type == pb.TrackEvent.TYPE_SLICE_BEGIN for p in trace.packet)
    tasks = sum(p["tasks"] for r in report("first")["results"] for p in r["phases"])  # type: ignore[attr-defined]
    assert slices == tasks > 0


def test_ops_table_lists_every_node_of_every_target() -> None:
    with Path("first/ops.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    for preset in TARGETS:
        names = {r["onnx"] for r in rows if r["preset"] == preset}
        assert {"up", "relu", "down"} <= {word for name in names for word in name.split()}


@pytest.mark.parametrize("extra", [[], ["--no-cache"]], ids=["from the cache", "simulated again"])
def test_same_command_gives_the_same_bytes(extra: list[str], tmp_path: Path) -> None:
    again = tmp_path / "again"
    assert main([*COMMAND, *extra, "-o", str(again)]) == 0
    for name in ("report.json", "index.html", "ops.csv", "trace.pftrace"):
        assert (again / name).read_bytes() == Path("first", name).read_bytes(), name
    # The lock names the model by a path from its own folder.
    assert lock.read(again / "config.lock.yaml") == lock.read(Path("first/config.lock.yaml"))


def test_lock_repeats_the_run(tmp_path: Path) -> None:
    assert main(["run", "--lock", "first/config.lock.yaml", "--quiet", "-o", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again" / "report.json").read_bytes() == Path("first/report.json").read_bytes()


def test_setting_changes_one_target_only(tmp_path: Path) -> None:
    change = ["--set", "gpu/t4:launch=eager", "-o", str(tmp_path / "slow")]
    assert main([*COMMAND, *change]) == 0
    before = {r["preset"]: r["latency"] for r in report("first")["results"]}
    after = {r["preset"]: r["latency"] for r in report(str(tmp_path / "slow"))["results"]}
    changed = {preset for preset in TARGETS if before[preset] != after[preset]}
    assert changed == {"gpu/t4"}


def test_json_on_stdout_is_the_report(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main([*COMMAND, "--json", "-o", str(tmp_path / "x")]) == 0
    caught = capsys.readouterr()
    assert caught.out.encode() == Path("first/report.json").read_bytes()
    assert "index.html" in caught.err


def test_table_on_stdout_names_every_target_and_100_percent(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main([*COMMAND, "-o", str(tmp_path / "x")]) == 0
    out = capsys.readouterr().out
    for preset in TARGETS:
        assert f"why {preset}:" in out
    assert out.count("(= 100.0 % of ") == len(TARGETS)


def test_default_folder_is_named_after_the_run_and_may_be_run_again(workplace: Path) -> None:
    command = ["run", "mlp.onnx", "--dim", "rows=4", "--on", "gpu/t4", "--quiet"]
    assert main(command) == 0
    assert main(command) == 0
    assert len(list((workplace / "out").iterdir())) == 1


@needs_browser
def test_the_page_of_a_real_run_is_clean_in_a_browser(workplace: Path, tmp_path: Path) -> None:
    from tetrasim.reports.formats.index_html import SECTIONS

    for page in ("first", "first/gpu-t4"):
        dom, console = open_offline(workplace / page / "index.html", tmp_path / "profile")
        assert console == []
        for name, _ in SECTIONS:
            assert f'<section id="{name}">' in dom
        assert "rows, " in dom.partition('id="ops-count"')[2][:80]


def test_compare_puts_runs_side_by_side(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["compare", "first", "first/gpu-t4", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["results"]
    assert [r["preset"] for r in found] == [*TARGETS, "gpu/t4"]
    assert main(["compare", "first", "-o", str(tmp_path / "page.html")]) == 0
    assert "pim/pim-gpt" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_no_target_is_faster_than_its_own_ceilings() -> None:
    for r in report("first")["results"]:
        phases, peaks = r["phases"], r["peaks"]
        assert isinstance(phases, list)
        assert isinstance(peaks, list)
        ceilings = {p["name"]: p["amount"] for p in peaks}
        for phase in phases:
            seconds = phase["latency"]["value"] * 1e-9
            assert 0 <= phase["peak_fraction"] <= 1
            for share in phase["bytes_moved"]:
                if share["name"] in ceilings:
                    assert share["amount"] / seconds <= ceilings[share["name"]] * 1.001, (r["preset"], share)
