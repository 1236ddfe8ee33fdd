"""Studies: the same seed gives the same front, a stopped study goes on, nothing is lost or counted twice."""

import json
import os
import shutil
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tetrasim.dse import folder as folders
from tetrasim.dse.evaluate import Outcome
from tetrasim.dse.executors import DEFECT, InProcess, LocalWorkers
from tetrasim.dse.journal import only_driver
from tetrasim.dse.report import to_html, write_report
from tetrasim.dse.space import Point, StudySpec
from tetrasim.dse.spec_file import make_spec
from tetrasim.dse.storage import open_study, storage_of
from tetrasim.dse.store import Store
from tetrasim.dse.study import State, defects, read_state, reasons, run_study
from tetrasim.errors import UserError

SPEC: dict[str, object] = {
    "name": "toy",
    "model": {"preset": "digits-tiny"},
    "targets": {
        "cpu/xeon-6154": {
            "core.clock_hz": {"low": 10**9, "high": 4 * 10**9},
            "dram.bandwidth_bytes_per_s": {"low": 5e10, "high": 4e11},
        }
    },
    "objectives": ["latency_us", "energy_mj"],
}


class Formula:
    """Executes a formula in place of a simulation; stops like Ctrl-C after `stop` jobs."""

    slots = 1

    def __init__(self, stop: int = 10**9) -> None:
        self.jobs: list[tuple[int, Point]] = []
        self.stop, self.seen = stop, list[int]()

    def submit(self, number: int, point: Point) -> None:
        self.jobs.append((number, point))

    def wait(self) -> tuple[int, Outcome]:
        if len(self.seen) == self.stop:
            raise KeyboardInterrupt
        number, point = self.jobs.pop(0)
        self.seen.append(number)
        clock = float(point["cpu/xeon-6154:core.clock_hz"]) / 1e9
        wide = float(point["cpu/xeon-6154:dram.bandwidth_bytes_per_s"]) / 1e11
        if clock > 3.9:
            return number, Outcome({}, "too fast to exist")
        return number, Outcome(
            {"latency_us": 1 / clock + 1 / wide, "energy_mj": clock**2 + wide, "overflow": 0.5}
        )

    def close(self) -> None:
        self.jobs.clear()


def spec_of(sampler: str = "tpe", trials: int = 40, **changes: object) -> StudySpec:
    return make_spec({**SPEC, "search": {"sampler": sampler, "trials": trials, "seed": 5}, **changes})


def numbers(state: State) -> list[tuple[int, dict[str, float]]]:
    return [(t.number, t.metrics) for t in state.trials]


@pytest.mark.parametrize("sampler", ["random", "tpe", "nsga2"])
def test_same_seed_same_study(sampler: str, tmp_path: Path) -> None:
    spec = spec_of(sampler)
    states = [run_study(spec, folders.start(spec, tmp_path / str(i)), Formula()) for i in range(2)]
    assert numbers(states[0]) == numbers(states[1])
    assert [t.number for t in states[0].front] == [t.number for t in states[1].front]


@pytest.mark.parametrize("sampler", ["random", "tpe", "nsga2"])
def test_a_stopped_study_goes_on_as_if_it_had_not_been(sampler: str, tmp_path: Path) -> None:
    spec = spec_of(sampler, 30)
    whole = run_study(spec, folders.start(spec, tmp_path / "whole"), Formula())
    for stop in (7, 0, 12):
        with pytest.raises(KeyboardInterrupt):
            run_study(spec, folders.start(spec, tmp_path / "parts"), Formula(stop))
    parts = run_study(spec, folders.start(spec, tmp_path / "parts"), Formula())
    assert numbers(parts) == numbers(whole)
    assert [t.number for t in parts.trials] == list(range(30))


def test_search_comes_close_to_the_best(tmp_path: Path) -> None:
    """One objective with a known optimum: both ends of the ranges."""
    spec = make_spec(
        {**SPEC, "objectives": ["latency_us"], "search": {"sampler": "tpe", "trials": 60, "seed": 2}}
    )
    state = run_study(spec, folders.start(spec, tmp_path), Formula())
    assert state.front[0].metrics["latency_us"] < 1.05 * (1 / 3.9 + 1 / 4.0)


def test_a_line_cut_short_by_a_kill_is_dropped(tmp_path: Path) -> None:
    spec = spec_of("random", 12)
    run_study(spec_of("random", 6), folders.start(spec, tmp_path), Formula())
    with (tmp_path / "journal.log").open("ab") as stream:
        stream.write(b'{"op_code":5,"worker')
    assert len(folders.load(tmp_path).trials) == 6
    state = run_study(spec, folders.start(spec, tmp_path), Formula())
    assert [t.number for t in state.trials] == list(range(12))


def test_two_drivers_are_kept_apart(tmp_path: Path) -> None:
    with only_driver(tmp_path), pytest.raises(UserError, match="another process"), only_driver(tmp_path):
        pass


def test_impossible_points_and_constraints_are_kept_apart(tmp_path: Path) -> None:
    spec = spec_of("random", 60, constraints=["energy_mj <= 6", "fits"])
    state = run_study(spec, folders.start(spec, tmp_path), Formula())
    assert any(t.note == "too fast to exist" and not t.metrics for t in state.trials)
    assert all(t.metrics["energy_mj"] <= 6 for t in state.front)
    assert any(t.metrics and not t.feasible for t in state.trials)


def test_a_stalled_front_stops_the_study(tmp_path: Path) -> None:
    search = {"sampler": "random", "trials": 400, "seed": 1, "stall": 25}
    spec = make_spec({**SPEC, "search": search})
    assert len(run_study(spec, folders.start(spec, tmp_path), Formula()).trials) < 400


def test_grid_visits_every_point(tmp_path: Path) -> None:
    targets = {
        "cpu/xeon-6154": {
            "core.clock_hz": [10**9, 2 * 10**9],
            "dram.bandwidth_bytes_per_s": {"low": 1e11, "high": 3e11, "step": 1e11},
        }
    }
    spec = make_spec({**SPEC, "targets": targets, "search": {"sampler": "grid", "trials": 100}})
    with pytest.raises(KeyboardInterrupt):
        run_study(spec, folders.start(spec, tmp_path), Formula(3))
    state = run_study(spec, folders.start(spec, tmp_path), Formula())
    assert len(state.trials) == 6
    assert len({tuple(sorted(t.point.items())) for t in state.trials}) == 6


def test_a_folder_holds_one_study(tmp_path: Path) -> None:
    folders.start(spec_of(trials=5), tmp_path)
    folders.start(spec_of(trials=9), tmp_path)  # a larger budget is the same study
    with pytest.raises(UserError, match="another study"):
        folders.start(spec_of("random", 5), tmp_path)
    with pytest.raises(UserError, match="not a study folder"):
        folders.load(tmp_path / "nothing")


def test_results_are_shared_by_content(tmp_path: Path) -> None:
    """The second study asks for the same points and simulates none of them."""
    spec, store = spec_of("random", 4), Store(tmp_path / "store")
    first = run_study(spec, folders.start(spec, tmp_path / "a"), InProcess(spec, store))
    files = sorted((tmp_path / "store").rglob("*.json"))
    assert len(files) == 4
    for file in files:  # a stored outcome is what is read
        found = store.find(file.stem)
        assert found is not None
        later = found.metrics | {"latency_us": found.metrics["latency_us"] + 1000.0}
        store.keep(file.stem, replace(found, metrics=later))
    second = run_study(spec, folders.start(spec, tmp_path / "b"), InProcess(spec, store))
    assert [t.metrics["latency_us"] - 1000 for t in second.trials] == pytest.approx(
        [t.metrics["latency_us"] for t in first.trials]
    )


def test_a_damaged_store_entry_counts_as_absent(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.keep("ab" * 32, Outcome({"x": 1.0}))
    assert store.find("ab" * 32) == Outcome({"x": 1.0})
    file = tmp_path / "ab" / f"{'ab' * 32}.json"
    good = file.read_text()
    for text in ("{", "", "[]", good.replace("1.0", "2.0"), good[:-3]):
        file.write_text(text)
        assert store.find("ab" * 32) is None


def test_a_killed_worker_costs_time_only(tmp_path: Path) -> None:
    spec, store = spec_of("random", 6), Store(tmp_path / "store")
    executor = LocalWorkers(spec, store, 2)
    try:
        os.kill(executor.pids[0], signal.SIGKILL)
        state = run_study(spec, folders.start(spec, tmp_path / "study"), executor)
    finally:
        executor.close()
    assert [t.number for t in sorted(state.trials, key=lambda t: t.number)] == list(range(6))
    assert all(t.metrics for t in state.trials)


def test_an_sqlite_storage_works_too(tmp_path: Path) -> None:
    spec, url = spec_of("random", 5), f"sqlite:///{tmp_path}/study.db"
    state = run_study(spec, folders.start(spec, tmp_path / "s", url), Formula())
    assert numbers(folders.load(tmp_path / "s", url)) == numbers(state)
    for named in ("", f"sqlite:///{tmp_path}/other.db"):  # a folder may be anyone's: it opens nothing itself
        with pytest.raises(UserError, match="opened only when you name it"):
            folders.load(tmp_path / "s", named)
        with pytest.raises(UserError, match="opened only when you name it"):
            folders.start(spec, tmp_path / "s", named)
    assert not (tmp_path / "other.db").exists()
    with pytest.raises(UserError, match="cannot open the storage"):
        storage_of(tmp_path, "no-such-thing://x")


def test_a_received_folder_writes_through_no_link(tmp_path: Path) -> None:
    """journal, lock, front and report of a study folder may be links to anything."""
    spec = spec_of("random", 2)
    run_study(spec, folders.start(spec, tmp_path / "s"), Formula())
    (tmp_path / "precious").write_text("mine")
    for name in ("front.csv", "report.html", "journal.log", "journal.log.flock", ".driver"):
        place = tmp_path / "s" / name
        place.unlink(missing_ok=True)
        place.symlink_to(tmp_path / "precious")
        with pytest.raises(UserError, match="symbolic link"):
            _write_everything(spec, tmp_path / "s")
        place.unlink()
        assert (tmp_path / "precious").read_text() == "mine"
        run_study(spec, folders.start(spec, tmp_path / "s"), Formula())


def _write_everything(spec: StudySpec, folder: Path) -> None:
    with only_driver(folder):
        state = run_study(spec, folders.start(spec, folder), Formula())
    folders.write_front(state, folder)
    write_report(state, folder)


def test_reasons_are_counted(tmp_path: Path) -> None:
    spec = spec_of("random", 3)
    state = run_study(spec, folders.start(spec, tmp_path), Formula())
    failed = [replace(t, metrics={}, note=n) for t, n in zip(state.trials, "aba", strict=True)]
    assert reasons(replace(state, trials=tuple(failed))) == (("a", 2, 0), ("b", 1, 1))


@pytest.mark.parametrize(
    ("objective", "target", "says"),
    [
        ("lut", "gpu/t4", "gpu/t4 has no 'lut'"),
        ("dsp", "cpu/xeon-6154", "cpu/xeon-6154 has no 'dsp'"),
        ("area_mm2", "fpga/u280", "fpga/u280 has no 'area_mm2'"),
        ("first_token_us", "gpu/t4", "'digits-tiny' generates no token"),
    ],
)
def test_a_metric_that_a_target_lacks_is_refused_before_the_first_trial(
    objective: str, target: str, says: str
) -> None:
    tree = {**SPEC, "targets": {target: {}}, "objectives": [objective, "latency_us"]}
    with pytest.raises(UserError, match=says):
        make_spec(tree)
    make_spec({**tree, "objectives": ["latency_us", "memory_bytes"]})


def test_report_and_front(tmp_path: Path) -> None:
    spec = spec_of("random", 30)
    state = run_study(spec, folders.start(spec, tmp_path), Formula())
    hostile = replace(state.trials[0], metrics={}, note="</script><b>")
    page = to_html(replace(state, trials=(hostile, *state.trials[1:])))
    assert "b\\u003e" in page
    assert "</script><b>" not in page
    assert len(page) < 1_000_000
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    rows = folders.front_csv(state).splitlines()
    assert len(rows) == 1 + len(state.front)
    assert rows[0].startswith("trial,")


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_the_report_draws_every_trial_in_a_browser(tmp_path: Path) -> None:
    spec = spec_of("random", 25)
    state = run_study(spec, folders.start(spec, tmp_path), Formula())
    page = write_report(state, tmp_path)
    words = [
        "chromium",
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--enable-logging=stderr",
        "--dump-dom",
    ]
    done = subprocess.run([*words, page.as_uri()], capture_output=True, text=True, timeout=60, check=True)
    drawn = sum(bool(t.metrics) for t in state.trials)
    assert done.stdout.count("<circle") == drawn
    assert done.stdout.count("<polyline") >= drawn  # one line each, and the front's edge
    assert "CONSOLE" not in done.stderr
    assert done.stdout.count("<tr") >= 25
    assert "CONSOLE" not in done.stderr


def test_reading_a_thousand_trials_is_quick(tmp_path: Path) -> None:
    import time

    spec = spec_of("random", 1000)
    run_study(spec, folders.start(spec, tmp_path), Formula())
    started = time.perf_counter()
    state = read_state(spec, open_study(spec, storage_of(tmp_path)))
    assert len(state.trials) == 1000
    assert time.perf_counter() - started < 5.0  # 1 s on an idle machine (benchmarks/dse_speed.py)


@pytest.mark.parametrize("database", [False, True])
def test_optuna_opens_the_study_without_tetrasim(database: bool, tmp_path: Path) -> None:
    """What optuna-dashboard does: optuna's own storages, names, directions, parameters and values."""
    import optuna
    from optuna.storages.journal import JournalFileBackend

    spec, url = spec_of("random", 6), f"sqlite:///{tmp_path}/study.db" if database else ""
    state = run_study(spec, folders.start(spec, tmp_path / "s", url), Formula())
    journal = JournalFileBackend(str(tmp_path / "s" / "journal.log")) if not database else None
    storage = optuna.storages.JournalStorage(journal) if journal else optuna.storages.get_storage(url)
    study = optuna.load_study(study_name=spec.name, storage=storage)
    assert [d.name for d in study.directions] == ["MINIMIZE", "MINIMIZE"]
    complete = [t for t in study.trials if t.values]
    kept = {t.number: [t.metrics[m] for m in spec.objectives] for t in state.trials if t.metrics}
    assert {t.number: t.values for t in complete} == kept
    assert {t.number for t in study.best_trials} == {t.number for t in state.front}
    assert all(set(t.params) == {p.name for p in spec.parameters} for t in complete)


class Broken(Formula):
    """A formula with a defect at some trials."""

    def __init__(self, at: range) -> None:
        super().__init__()
        self.at = at

    def wait(self) -> tuple[int, Outcome]:
        number, outcome = super().wait()
        return number, Outcome({}, f"{DEFECT}ValueError: 7") if number in self.at else outcome


def test_a_defect_at_one_point_does_not_end_a_search(tmp_path: Path) -> None:
    spec = spec_of("random", 10)
    state = run_study(spec, folders.start(spec, tmp_path), Broken(range(4, 6)))
    assert [t.number for t in defects(state)] == [4, 5]
    assert len(state.trials) == 10


def test_a_defect_before_anything_worked_ends_it_and_records_nothing(tmp_path: Path) -> None:
    spec = spec_of("random", 10)
    with pytest.raises(RuntimeError, match="trial 0: ValueError: 7"):
        run_study(spec, folders.start(spec, tmp_path), Broken(range(10)))
    assert read_state(spec, open_study(spec, storage_of(tmp_path))).trials == ()
    assert len(run_study(spec, folders.start(spec, tmp_path), Formula()).trials) == 10


def test_a_database_holds_one_study_of_a_name(tmp_path: Path) -> None:
    """Two that differ in more than their budget never mix; a relative path is kept as an absolute one."""
    url = f"sqlite:///{os.path.relpath(tmp_path / 'all.db')}"
    run_study(spec_of("random", 4), folders.start(spec_of("random", 4), tmp_path / "a", url), Formula())
    more = spec_of("random", 6)
    assert len(run_study(more, folders.start(more, tmp_path / "a", url), Formula()).trials) == 6
    with pytest.raises(UserError, match="holds another study named 'toy'"):
        folders.start(spec_of("tpe"), tmp_path / "b", url)
    kept = json.loads((tmp_path / "a" / "study.json").read_text())
    assert kept["storage"] == f"sqlite:///{tmp_path / 'all.db'}"
    assert len(folders.load(tmp_path / "a", url).trials) == 6


@pytest.mark.parametrize(
    ("url", "what", "hint"),
    [
        ("sqlite://", "in memory", "sqlite:///"),
        ("sqlite:///no/such/folder/x.db", "unable to open", "folder"),
        ("postgres://u@localhost/x", "postgres", "postgresql://"),
        ("study.db", "cannot open the storage", "sqlite:///"),
        ("redis://localhost", "cannot open the storage", "postgresql://"),
    ],
)
def test_a_storage_that_cannot_be_opened_says_what_to_write(
    url: str, what: str, hint: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as caught:
        folders.start(spec_of(), tmp_path / "s", url)
    assert what in caught.value.what
    assert hint in caught.value.hint
    assert not (tmp_path / "s").exists()


def test_a_database_password_is_for_the_owners_eyes(tmp_path: Path) -> None:
    file = tmp_path / "study.json"
    folders.write_file(file, "{}", private=True)
    assert file.stat().st_mode & 0o077 == 0
