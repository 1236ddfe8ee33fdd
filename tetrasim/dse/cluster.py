"""Evaluations on a dask.distributed cluster: a running scheduler, or workers of a batch system.

`tcp://HOST:PORT` connects to a scheduler; `slurm`, `lsf` and `pbs` start workers through dask-jobqueue. A
worker that dies costs its evaluation's time: dask gives the job to another. Jobs and answers are JSON texts.
The store is shared where the machines share the cache folder; outcomes reach the driver either way.
"""

from __future__ import annotations

import json
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

from tetrasim.dse.evaluate import Outcome
from tetrasim.dse.executors import outcome_of
from tetrasim.dse.space import Point, StudySpec, make_spec
from tetrasim.dse.store import Store
from tetrasim.errors import UserError

_BATCH = {"slurm": "SLURMCluster", "lsf": "LSFCluster", "pbs": "PBSCluster"}
ALLOWED_FAILURES = 10  # of workers under one job, before it is given up


def evaluate_json(spec_json: str, point_json: str, store: str) -> str:
    """What a worker runs: a point of a study, as texts."""
    outcome = outcome_of(_spec(spec_json), json.loads(point_json), Store(Path(store)))
    return json.dumps({"metrics": outcome.metrics, "note": outcome.note})


@lru_cache(maxsize=8)
def _spec(text: str) -> StudySpec:
    return make_spec(json.loads(text))


class DaskExecutor:
    """Evaluates through a dask client."""

    def __init__(self, spec: StudySpec, store: Store, address: str, workers: int) -> None:
        self._spec, self._store = spec.to_json(), str(store.root)
        self._cluster, self._client = _connect(address, workers)
        distributed: Any = import_module("distributed")  # no types
        self._finished = distributed.as_completed(with_results=False, raise_errors=False)
        self._numbers: dict[str, int] = {}

    @property
    def slots(self) -> int:
        """Two jobs per worker thread, so that none waits for the driver; at least one."""
        threads = sum(int(n) for n in self._client.nthreads().values())
        return max(2 * threads, 1)

    def submit(self, number: int, point: Point) -> None:
        future = self._client.submit(
            evaluate_json,
            self._spec,
            json.dumps(point),
            self._store,
            key=f"trial-{number}-{len(self._numbers)}",
            pure=False,
            retries=2,
        )
        self._numbers[future.key] = number
        self._finished.add(future)

    def wait(self) -> tuple[int, Outcome]:
        future = next(self._finished)
        number = self._numbers[future.key]
        if future.status != "finished":
            return number, Outcome({}, f"gave up: {future.exception()}".splitlines()[0])
        answer = json.loads(future.result())
        return number, Outcome(dict(answer["metrics"]), str(answer["note"]))

    def close(self) -> None:
        self._client.close()
        if self._cluster is not None:
            self._cluster.close()


def _connect(address: str, workers: int) -> tuple[Any, Any]:
    try:
        dask: Any = import_module("dask")
        distributed: Any = import_module("distributed")
    except ImportError:
        raise UserError(
            "a cluster needs dask.distributed", where="--cluster", hint="pip install 'tetrasim[cluster]'"
        ) from None
    dask.config.set({"distributed.scheduler.allowed-failures": ALLOWED_FAILURES})
    if address in _BATCH:
        try:
            import dask_jobqueue
        except ImportError:
            raise UserError(
                f"'{address}' needs dask-jobqueue", where="--cluster", hint="pip install 'tetrasim[cluster]'"
            ) from None
        cluster = getattr(dask_jobqueue, _BATCH[address])()
        cluster.scale(jobs=workers)
        return cluster, distributed.Client(cluster)
    if "://" not in address:
        raise UserError(
            f"'{address}' is no scheduler", where="--cluster", hint="tcp://HOST:PORT, slurm, lsf or pbs"
        )
    try:
        return None, distributed.Client(address, timeout="5s")
    except OSError as failure:
        raise UserError(
            f"no scheduler answers at {address}: {failure}", where="--cluster", hint="start `dask scheduler`"
        ) from None
