"""Jobs of a batch system, with an `sbatch` that runs scripts here: the whole path, options and refusals."""

import os
import signal
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tetrasim.dse import folder as folders
from tetrasim.dse.batch import is_batch, parse_batch
from tetrasim.dse.cluster import DaskExecutor
from tetrasim.dse.executors import InProcess
from tetrasim.dse.space import StudySpec
from tetrasim.dse.spec_file import make_spec
from tetrasim.dse.store import Store
from tetrasim.dse.study import run_study
from tetrasim.errors import UserError

dask = pytest.importorskip("dask", reason="dask comes with tetrasim[cluster]")
pytest.importorskip("dask_jobqueue", reason="dask-jobqueue comes with tetrasim[cluster]")

SUBMIT = """#!/bin/sh
cp "$1" {place}/job-$$.sh
setsid sh {place}/job-$$.sh > {place}/job-$$.log 2>&1 &
echo $! >> {place}/submitted
echo "Submitted batch job $!"
"""
CANCEL = """#!/bin/sh
echo "$1" >> {place}/cancelled
kill -TERM -- -"$1" 2> /dev/null || true
"""
ASK = "slurm:cores=1,memory=1GB,walltime=00:10:00,queue=short,directive=--qos=low,directive=--mail-type=NONE"


def spec_of(name: str = "batch", trials: int = 6) -> StudySpec:
    return make_spec(
        {
            "name": name,
            "model": {"preset": "digits-tiny"},
            "targets": {"cpu/xeon-6154": {"core.clock_hz": {"low": 10**9, "high": 4 * 10**9}}},
            "objectives": ["latency_us"],
            "search": {"sampler": "random", "trials": trials, "seed": 3},
        }
    )


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with `sbatch` and `scancel` on the PATH; jobs left over are killed."""
    place = tmp_path / "slurm"
    place.mkdir()
    for name, text in (("sbatch", SUBMIT), ("scancel", CANCEL)):
        (place / name).write_text(text.format(place=place))
        (place / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
    yield place
    for job in submitted(place):
        kill(job)


def submitted(place: Path) -> list[int]:
    file = place / "submitted"
    return [int(line) for line in file.read_text().split()] if file.is_file() else []


def kill(job: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(job, signal.SIGKILL)


def test_jobs_give_the_results_of_one_process_and_are_replaced_when_killed(
    slurm: Path, tmp_path: Path
) -> None:
    dask.config.set({"distributed.deploy.lost-worker-timeout": "1s"})
    spec = spec_of("a study + 1")
    here = run_study(spec, folders.start(spec, tmp_path / "here"), InProcess(spec, Store(tmp_path / "a")))
    with closing(DaskExecutor(spec, Store(tmp_path / "b"), ASK, 1)) as executor:
        there = run_study(spec, folders.start(spec, tmp_path / "there"), executor)
        first = submitted(slurm)
        kill(first[0])
        executor.submit(99, here.trials[0].point)
        assert executor.wait()[1].metrics == here.trials[0].metrics
    assert {t.number: t.metrics for t in there.trials} == {t.number: t.metrics for t in here.trials}
    assert len(submitted(slurm)) > len(first)
    assert (slurm / "cancelled").read_text().split()
    script = next(slurm.glob("job-*.sh")).read_text()
    for line in ("-J tetrasim-a-study-1", "-p short", "-t 00:10:00", "--qos=low", "--mail-type=NONE"):
        assert f"#SBATCH {line}\n" in script
    assert "--nthreads 1" in script


def test_a_refused_job_ends_the_study_with_the_systems_words(slurm: Path, tmp_path: Path) -> None:
    (slurm / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: invalid partition: nope' >&2\nexit 1\n")
    with closing(DaskExecutor(spec_of(), Store(tmp_path), ASK, 2)) as executor:
        executor.submit(0, {"cpu/xeon-6154:core.clock_hz": 10**9})
        with pytest.raises(UserError, match=r"refused a job: .*invalid partition: nope"):
            executor.wait()


@pytest.mark.usefixtures("slurm")
def test_options_are_checked(tmp_path: Path) -> None:
    assert is_batch("slurm")
    assert is_batch("pbs:cores=2")
    assert not is_batch("tcp://127.0.0.1:1")
    asked = parse_batch("lsf:cores=4,memory=8GB,least=0")
    assert dict(asked.keywords) == {"cores": 4, "memory": "8GB", "processes": 4}
    assert asked.least == 0
    for address, what, hint in (
        ("slurm:quene=a", "unknown option 'quene'", "queue"),
        ("slurm:cores=many", "no number of cores", "whole"),
        ("slurm:cores", "not NAME=VALUE", "cores=4"),
        ("slurm:queue=a\nb", "not NAME=VALUE", ""),
    ):
        with pytest.raises(UserError) as caught:
            parse_batch(address)
        assert what in caught.value.what
        assert hint in caught.value.hint
    with pytest.raises(UserError, match="slurm: You must specify how much cores and memory") as caught:
        DaskExecutor(spec_of(), Store(tmp_path), "slurm", 1)
    assert "cores=4,memory=8GB" in caught.value.hint


def test_without_the_batch_system_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="there is no 'sbatch'"):
        DaskExecutor(spec_of(), Store(tmp_path), ASK, 1)


@pytest.mark.usefixtures("slurm")
@pytest.mark.parametrize("missing", ["dask_jobqueue", "distributed"])
def test_without_the_extra_it_says_so(missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, missing, None)
    with pytest.raises(UserError) as caught:
        DaskExecutor(spec_of(), Store(tmp_path), ASK, 1)
    assert "pip install 'tetrasim[cluster]'" in caught.value.hint
