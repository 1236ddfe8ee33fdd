"""Evaluations on a dask.distributed cluster: a running scheduler, or jobs of a batch system (`batch.py`).

A worker that dies costs its evaluation's time: dask gives the job to another. Jobs and answers are JSON
texts. The store is shared where the machines share the cache folder; outcomes reach the driver either way.
When the scheduler is gone nothing is recorded: its trials are evaluated again when the study goes on.
"""

from __future__ import annotations

import json
import logging
import queue
import threading
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

from tetrasim.dse.batch import BatchJobs, is_batch, parse_batch
from tetrasim.dse.evaluate import Outcome
from tetrasim.dse.executors import outcome_of
from tetrasim.dse.space import Point, StudySpec
from tetrasim.dse.spec_file import make_spec
from tetrasim.dse.store import Store
from tetrasim.errors import UserError
from tetrasim.flow.provenance import code_sha256

ALLOWED_FAILURES = 10  # of workers under one job, before it is given up
_LOOK_S = 1.0  # how often a waiting driver looks whether scheduler and jobs are well
_GONE = ("closed", "closing", "cancelled", "failed")
_SAME_EVERYWHERE = "install the same version on every machine; the same command goes on"
_ONE_AT_A_TIME = threading.Lock()  # in a worker of several threads: pricing holds Python's lock anyway


def evaluate_json(spec_json: str, point_json: str, store: str) -> str:
    """What a worker runs: a point of a study, as texts; the answer says which version gave it."""
    with _ONE_AT_A_TIME:
        outcome = outcome_of(_spec(spec_json), json.loads(point_json), Store(Path(store)))
    return json.dumps({"metrics": outcome.metrics, "note": outcome.note, "code": code_sha256()})


@lru_cache(maxsize=8)
def _spec(text: str) -> StudySpec:
    return make_spec(json.loads(text))


class DaskExecutor:
    """Evaluates through a dask client."""

    def __init__(self, spec: StudySpec, store: Store, address: str, workers: int) -> None:
        self._spec, self._store, self._address = spec.to_json(), str(store.root), address
        distributed = _distributed()
        self._jobs = BatchJobs(parse_batch(address), spec.name, workers) if is_batch(address) else None
        self._client = distributed.Client(self._jobs.cluster) if self._jobs else _connect(address)
        self._finished: queue.Queue[Any] = queue.Queue()
        self._numbers: dict[str, int] = {}

    @property
    def slots(self) -> int:
        """Two jobs per worker thread, so that none waits for the driver; at least one for every job that is
        still in the batch system's queue, so that there is a reason to start it."""
        threads = sum(int(n) for n in self._client.nthreads().values())
        return max(2 * threads, self._jobs.jobs if self._jobs else 1)

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
        future.add_done_callback(self._finished.put)

    def wait(self) -> tuple[int, Outcome]:
        while True:
            try:
                future = self._finished.get(timeout=_LOOK_S)
            except queue.Empty:
                self._look()
                continue
            if future.status not in ("finished", "error"):
                self._lost()
            number = self._numbers[future.key]
            if future.status == "error":
                return number, _gave_up(future.exception())
            answer = json.loads(future.result())
            if answer["code"] != code_sha256():
                raise UserError(
                    "a worker runs another version of tetrasim", where="--cluster", hint=_SAME_EVERYWHERE
                )
            return number, Outcome(dict(answer["metrics"]), str(answer["note"]))

    def _look(self) -> None:
        if self._client.status in _GONE:
            self._lost()
        if self._jobs:
            self._jobs.check(len(self._client.nthreads()))

    def _lost(self) -> None:
        raise UserError(
            f"the scheduler of {self._address} is gone",
            where="--cluster",
            hint="start it again; the same command goes on",
        )

    def close(self) -> None:
        self._client.close(timeout=5)
        if self._jobs:
            self._jobs.close()


def _gave_up(failure: BaseException) -> Outcome:
    """A point that kills workers, or that fails, is impossible; a worker without tetrasim is no such point.

    Raises:
        UserError: the worker's installation is at fault.
    """
    if isinstance(failure, ImportError):
        raise UserError(
            f"a worker cannot import tetrasim: {failure}", where="--cluster", hint=_SAME_EVERYWHERE
        )
    return Outcome({}, f"gave up: {failure}".splitlines()[0])


def _distributed() -> Any:
    try:
        dask: Any = import_module("dask")
        distributed: Any = import_module("distributed")  # no types
    except ImportError:
        raise UserError(
            "a cluster needs dask.distributed", where="--cluster", hint="pip install 'tetrasim[cluster]'"
        ) from None
    dask.config.set({"distributed.scheduler.allowed-failures": ALLOWED_FAILURES})
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # what it would say, errors here say
    return distributed


def _connect(address: str) -> Any:
    if "://" not in address:
        raise UserError(
            f"'{address}' is no scheduler", where="--cluster", hint="tcp://HOST:PORT, slurm, lsf or pbs"
        )
    try:
        return _distributed().Client(address, timeout="5s")
    except (OSError, ValueError) as failure:
        raise UserError(
            f"no scheduler answers at {address}: {failure}", where="--cluster", hint="start `dask scheduler`"
        ) from None
