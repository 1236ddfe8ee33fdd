"""The other formats: CSV that no spreadsheet executes, locks that repeat a run, folders never half there."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import fake
import pytest
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

from tetrasim.errors import UserError
from tetrasim.reports import folder, lock
from tetrasim.reports.document import document
from tetrasim.reports.formats import ops_csv
from tetrasim.reports.perfetto import to_pftrace
from tetrasim.reports.run_folder import save_run
from tetrasim.sim.engine.timeline import Counter
from tetrasim.sim.workload import Workload

LOCK = lock.Lock(
    model="gpt2-small",
    model_sha256="ab" * 32,
    workload=Workload(2, 32, 64, (("rows", 4),)),
    targets=(lock.LockedTarget("gpu/t4", (("launch", "eager"), ("sm_count", 20)), "cd" * 32),),
    version="0.1.0",
)


def test_csv_has_a_row_per_op_and_quotes_formulas() -> None:
    found = fake.result()
    hostile = replace(found.ops[0], node='=HYPERLINK("http://x")', module="@sum")
    rows = list(
        csv.DictReader(
            ops_csv.render(document((replace(found, ops=(hostile, *found.ops[1:])),))).splitlines()
        )
    )
    assert len(rows) == len(found.ops)
    assert rows[0]["node"].startswith("'=")
    assert rows[0]["module"] == "'@sum"
    assert [int(r["macs"]) for r in rows] == [op.macs for op in found.ops]


def test_lock_reads_back_equal(tmp_path: Path) -> None:
    file = tmp_path / "config.lock.yaml"
    file.write_text(lock.to_yaml(LOCK, tmp_path), encoding="utf-8")
    assert lock.read(file) == LOCK
    assert "allow_unmodelled" not in file.read_text(encoding="utf-8")
    allowed = replace(LOCK, allow_unmodelled=True)
    file.write_text(lock.to_yaml(allowed, tmp_path), encoding="utf-8")
    assert lock.read(file) == allowed


def test_paths_of_a_lock_are_relative_to_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work" / "exported").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    for model in ("models/m.onnx", "exported", str(tmp_path / "m.yaml"), "gpt2-small"):
        for preset in ("gpu/own/mine.yaml", f"gpu/{tmp_path}/t4.yaml", "gpu/t4"):
            monkeypatch.chdir(tmp_path / "work")
            run = tmp_path / "work" / "out" / "run"
            run.mkdir(parents=True, exist_ok=True)
            told = replace(LOCK, model=model, targets=(lock.LockedTarget(preset),))
            (run / "config.lock.yaml").write_text(lock.to_yaml(told, run), encoding="utf-8")
            monkeypatch.chdir(tmp_path / "elsewhere")
            found = lock.read(Path("../work/out/run/config.lock.yaml"))
            assert Path(found.model).absolute().resolve() == (
                tmp_path / "elsewhere" / "gpt2-small" if model == "gpt2-small" else tmp_path / "work" / model
            )
            kind, _, rest = found.targets[0].preset.partition("/")
            assert kind == "gpu"
            wanted = preset.partition("/")[2]
            if wanted.endswith(".yaml"):
                assert Path(rest).absolute().resolve() == tmp_path / "work" / wanted
            else:
                assert rest == wanted


def test_lock_with_a_flag_that_is_no_flag(tmp_path: Path) -> None:
    file = tmp_path / "config.lock.yaml"
    file.write_text("model: a\nallow_unmodelled: maybe\ntargets: [{preset: gpu/t4}]\n", encoding="utf-8")
    with pytest.raises(UserError, match="neither true nor false"):
        lock.read(file)


def test_trace_has_a_slice_per_task_on_its_resource_at_its_time() -> None:
    run = fake.traced(tasks=37)
    # Two traces concatenated are one trace, as the top of a run folder has it.
    trace = pb.Trace.FromString(to_pftrace([run]) + to_pftrace([fake.traced("second", tasks=5)]))
    begins = [p for p in trace.packet if p.track_event.type == pb.TrackEvent.TYPE_SLICE_BEGIN]
    ends = [p for p in trace.packet if p.track_event.type == pb.TrackEvent.TYPE_SLICE_END]
    assert len(begins) == len(ends) == 37 + 5
    tracks = {
        p.track_descriptor.uuid: p.track_descriptor.name for p in trace.packet if p.track_descriptor.uuid
    }
    assert {tracks[p.track_event.track_uuid] for p in begins} == {"a", "b"}
    assert sorted(p.timestamp for p in begins[:37]) == (run.timeline.start_ps // 1000).tolist()
    names = {e.iid: e.name for p in trace.packet for e in p.interned_data.debug_annotation_names}
    texts = {e.iid: e.str for p in trace.packet for e in p.interned_data.debug_annotation_string_values}
    noted = {names[a.name_iid]: a for a in begins[1].track_event.debug_annotations}
    assert texts[noted["node"].string_value_iid] == b"n2"
    assert noted["cycles: work"].int_value == 3
    assert noted["bytes: DRAM"].int_value == 8


def test_trace_shows_counters_beside_the_tasks() -> None:
    busy = Counter("busy SMs", "SMs", (0, 5_000, 9_000), (0, 108, 12))
    runs = [replace(fake.traced(), counters=(busy,), begin_ps=begin) for begin in (0, 1_000_000)]
    trace = pb.Trace.FromString(to_pftrace(runs))
    (described,) = [p.track_descriptor for p in trace.packet if p.track_descriptor.HasField("counter")]
    assert (described.name, described.counter.unit_name) == ("busy SMs", "SMs")
    values = [p for p in trace.packet if p.track_event.type == pb.TrackEvent.TYPE_COUNTER]
    found = [(p.timestamp, p.track_event.counter_value) for p in values]
    assert found == [(0, 0), (5, 108), (9, 12), (1000, 0), (1005, 108), (1009, 12)]
    assert {p.track_event.track_uuid for p in values} == {described.uuid}


def test_run_folder_holds_five_files_per_target(tmp_path: Path) -> None:
    found = document((fake.result(), fake.result("pim/aim")))
    target = lock.LockedTarget("pim/aim")
    save_run(tmp_path / "run", found, [b"a", b"b"], replace(LOCK, targets=(*LOCK.targets, target)))
    five = {"report.json", "index.html", "ops.csv", "trace.pftrace", "config.lock.yaml"}
    assert {p.name for p in (tmp_path / "run").iterdir()} == {*five, "gpu-t4", "pim-aim"}
    assert {p.name for p in (tmp_path / "run" / "pim-aim").iterdir()} == five
    assert (tmp_path / "run" / "trace.pftrace").read_bytes() == b"ab"
    assert lock.read(tmp_path / "run" / "pim-aim" / "config.lock.yaml").targets == (target,)


def test_failure_leaves_no_folder_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_self: Path, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match="no room is left"):
        folder.write(tmp_path / "run", folder.RunFiles((("a", b"1"),)), {}, force=False)
    assert list(tmp_path.iterdir()) == []


def test_force_replaces_only_run_folders(tmp_path: Path) -> None:
    place = tmp_path / "run"
    files = folder.RunFiles(((folder.LOCK_NAME, b"x"), ("a", b"1")))
    folder.write(place, files, {}, force=False)
    with pytest.raises(UserError, match="exists"):
        folder.write(place, files, {}, force=False)
    folder.write(place, folder.RunFiles(((folder.LOCK_NAME, b"y"),)), {}, force=True)
    assert [p.name for p in place.iterdir()] == [folder.LOCK_NAME]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years")
    with pytest.raises(UserError, match="does not delete"):
        folder.write(tmp_path / "mine", files, {}, force=True)


@pytest.mark.parametrize(
    ("preset", "name"), [("gpu/t4", "gpu-t4"), ("gpu/../../x", "gpu-..-..-x"), ("/..", "target")]
)
def test_folder_names_stay_inside(preset: str, name: str, tmp_path: Path) -> None:
    assert folder.folder_name(preset) == name
    assert (tmp_path / folder.folder_name(preset)).resolve().parent == tmp_path.resolve()
