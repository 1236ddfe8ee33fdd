"""A study on a dask cluster records every trial once; a wrong address is refused."""

from pathlib import Path

import pytest

from tetrasim.dse import folder as folders
from tetrasim.dse.cluster import DaskExecutor
from tetrasim.dse.spec_file import make_spec
from tetrasim.dse.store import Store
from tetrasim.dse.study import run_study
from tetrasim.errors import UserError

distributed = pytest.importorskip("distributed", reason="dask.distributed comes with tetrasim[cluster]")

SPEC = {
    "name": "cluster",
    "model": {"preset": "digits-tiny"},
    "targets": {"cpu/xeon-6154": {"core.clock_hz": {"low": 10**9, "high": 4 * 10**9}}},
    "objectives": ["latency_us"],
    "search": {"sampler": "random", "trials": 8, "seed": 3},
}


def test_a_cluster_gives_the_results_of_one_process(tmp_path: Path) -> None:
    from tetrasim.dse.executors import InProcess

    spec = make_spec(dict(SPEC))
    here = run_study(spec, folders.start(spec, tmp_path / "here"), InProcess(spec, Store(tmp_path / "a")))
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        executor = DaskExecutor(spec, Store(tmp_path / "b"), cluster.scheduler_address, 2)
        try:
            there = run_study(spec, folders.start(spec, tmp_path / "there"), executor)
        finally:
            executor.close()
    assert {t.number: t.metrics for t in there.trials} == {t.number: t.metrics for t in here.trials}
    assert len(there.trials) == 8


@pytest.mark.parametrize("address", ["nowhere", "tcp://127.0.0.1:1"])
def test_a_wrong_address_is_refused(address: str, tmp_path: Path) -> None:
    spec = make_spec(dict(SPEC))
    with pytest.raises(UserError, match="scheduler"):
        DaskExecutor(spec, Store(tmp_path), address, 1)


def test_a_worker_that_is_set_up_wrongly_is_no_impossible_point() -> None:
    """Its trials are not recorded: they run again when the study goes on."""
    from tetrasim.dse.cluster import _gave_up

    with pytest.raises(UserError, match="cannot import tetrasim"):
        _gave_up(ModuleNotFoundError("No module named 'tetrasim'"))
    assert _gave_up(MemoryError("too large\nfor this node")).note == "gave up: too large"


def test_another_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = make_spec(dict(SPEC))
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        executor = DaskExecutor(spec, Store(tmp_path), cluster.scheduler_address, 1)
        try:
            executor.submit(0, {"cpu/xeon-6154:core.clock_hz": 10**9})
            answers = iter(("worker", "driver"))
            monkeypatch.setattr("tetrasim.dse.cluster.code_sha256", lambda: next(answers))
            with pytest.raises(UserError, match="another version"):
                executor.wait()
        finally:
            executor.close()


def test_a_lost_scheduler_records_nothing(tmp_path: Path) -> None:
    spec = make_spec(dict(SPEC))
    cluster = distributed.LocalCluster(
        n_workers=0, threads_per_worker=1, processes=False, dashboard_address=None
    )
    executor = DaskExecutor(spec, Store(tmp_path), cluster.scheduler_address, 1)
    try:
        executor.submit(0, {"cpu/xeon-6154:core.clock_hz": 10**9})
        cluster.close()
        with pytest.raises(UserError, match="is gone"):
            executor.wait()
    finally:
        executor.close()
