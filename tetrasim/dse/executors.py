"""Where candidates are evaluated: in this process, in local worker processes, or on a dask cluster.

An executor takes (number, point) jobs and hands back (number, outcome) as they finish, in any order. Workers
speak JSON lines over pipes (`worker.py`); one that dies is replaced and its job given to the next, so a kill
costs one evaluation's time. A job that five workers died on is given up with a note. Each worker writes its
outcome to the store before it answers: a result outlives the worker and the driver.
"""

from __future__ import annotations

import json
import selectors
import subprocess
from collections import deque
from typing import IO, Protocol

from tetrasim.dse.candidate import resolve_point, target_of
from tetrasim.dse.evaluate import Outcome
from tetrasim.dse.prices import cost_metrics
from tetrasim.dse.space import Point, StudySpec
from tetrasim.dse.store import Store
from tetrasim.errors import UserError
from tetrasim.processes import python_command, python_environment

MAX_DEATHS = 5
DEFECT = "internal error: "  # how the note of an evaluation begins that ended in a defect of ours


class Executor(Protocol):
    """Evaluates points somewhere."""

    @property
    def slots(self) -> int:
        """Jobs that make sense at once."""
        ...

    def submit(self, number: int, point: Point) -> None: ...

    def wait(self) -> tuple[int, Outcome]:
        """The next finished job; blocks. Call only while jobs are pending."""
        ...

    def close(self) -> None: ...


def outcome_of(spec: StudySpec, point: Point, store: Store) -> Outcome:
    """Evaluate a point at the study's prices, or say why it cannot exist."""
    try:
        candidate = resolve_point(spec, point)
        found = store.evaluate(candidate)
    except UserError as refusal:
        return Outcome({}, str(refusal).splitlines()[0])
    except Exception as defect:  # one point must not end a search of hours; the driver looks at the note
        return Outcome({}, f"{DEFECT}{type(defect).__name__}: {defect}".splitlines()[0])
    costs = cost_metrics(spec, target_of(spec, point), candidate.workload, found.metrics)
    return Outcome(found.metrics | costs, found.note)


class InProcess:
    """One job at a time, here: deterministic."""

    slots = 1

    def __init__(self, spec: StudySpec, store: Store) -> None:
        self._spec, self._store = spec, store
        self._jobs: deque[tuple[int, Point]] = deque()

    def submit(self, number: int, point: Point) -> None:
        self._jobs.append((number, point))

    def wait(self) -> tuple[int, Outcome]:
        number, point = self._jobs.popleft()
        return number, outcome_of(self._spec, point, self._store)

    def close(self) -> None:
        self._jobs.clear()


class _Worker:
    """A worker process and the job it holds."""

    def __init__(self, setup: bytes) -> None:
        self.process = subprocess.Popen(
            python_command("tetrasim.dse.worker"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=python_environment(OMP_NUM_THREADS="1", NUMBA_NUM_THREADS="1"),
            start_new_session=True,  # Ctrl-C reaches the driver, which then closes the pipes
        )
        self.job: tuple[int, Point] | None = None
        self.ready = False  # it has said that it has started
        self._send(setup)

    @property
    def answers(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    def start(self, number: int, point: Point) -> None:
        self.job = (number, point)
        self._send(json.dumps({"number": number, "point": point}).encode() + b"\n")

    def _send(self, line: bytes) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(line)
            self.process.stdin.flush()
        except OSError:
            pass  # the worker is dead: reading its pipe ends, which is handled there

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate()


class LocalWorkers:
    """`count` processes on this machine."""

    def __init__(self, spec: StudySpec, store: Store, count: int) -> None:
        self.slots = count
        header = {"spec": spec.model_dump(mode="json"), "store": str(store.root)}
        self._setup = json.dumps(header).encode() + b"\n"
        self._selector = selectors.DefaultSelector()
        self._waiting: deque[tuple[int, Point]] = deque()
        self._idle: list[_Worker] = []
        self._workers: list[_Worker] = []
        self._deaths: dict[int, int] = {}
        self._failed_starts = 0  # in a row
        self._given_up: deque[tuple[int, Outcome]] = deque()
        for _ in range(count):
            self._spawn()

    def _spawn(self) -> None:
        worker = _Worker(self._setup)
        self._workers.append(worker)
        self._selector.register(worker.answers, selectors.EVENT_READ, worker)

    def submit(self, number: int, point: Point) -> None:
        self._waiting.append((number, point))
        self._hand_out()

    def _hand_out(self) -> None:
        while self._waiting and self._idle:
            self._idle.pop().start(*self._waiting.popleft())

    def wait(self) -> tuple[int, Outcome]:
        while True:
            if self._given_up:
                return self._given_up.popleft()
            for key, _ in self._selector.select():
                worker: _Worker = key.data
                line = worker.answers.readline()
                if not line.endswith(b"\n"):
                    self._bury(worker)
                    continue
                worker.job = None
                self._idle.append(worker)
                self._hand_out()
                answer = json.loads(line)
                if "ready" in answer:  # it has started: a job that waits for it counts from here
                    worker.ready = True
                    self._failed_starts = 0
                    continue
                return int(answer["number"]), Outcome(dict(answer["metrics"]), str(answer["note"]))

    def _bury(self, worker: _Worker) -> None:
        """Replace a dead worker; its job goes first in line, unless it keeps killing workers.

        Raises:
            UserError: one worker after the other dies before it has started.
        """
        self._selector.unregister(worker.answers)
        self._workers.remove(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        worker.stop()
        if not worker.ready:
            self._failed_starts += 1
            if self._failed_starts >= MAX_DEATHS:
                raise UserError(
                    f"{MAX_DEATHS} worker processes ended one after the other before they could start",
                    where="--workers",
                    hint="what they said stands above; `--workers 1` evaluates in this process",
                )
        if worker.job is not None:
            number, _ = worker.job
            self._deaths[number] = self._deaths.get(number, 0) + 1
            if self._deaths[number] >= MAX_DEATHS:
                note = f"gave up: {MAX_DEATHS} workers died on it"
                self._given_up.append((number, Outcome({}, note)))
            else:
                self._waiting.appendleft(worker.job)
        self._spawn()
        self._hand_out()

    @property
    def pids(self) -> list[int]:
        """Process ids, for tests that kill them."""
        return [w.process.pid for w in self._workers]

    def close(self) -> None:
        for worker in self._workers:
            worker.stop()
        self._workers.clear()
        self._selector.close()
