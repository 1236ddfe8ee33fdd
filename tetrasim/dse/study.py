"""A study: the driver that asks for points, has them evaluated and records them, and can be stopped anywhere.

Only the driver writes to the study's journal. A trial that was asked for but not told when the driver died is
evaluated again on the next start, under its number and with its point; its outcome is usually in the store
already. So no completed trial is lost and none is counted twice.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tetrasim.dse.evaluate import OVERFLOW, Outcome
from tetrasim.dse.executors import DEFECT, Executor
from tetrasim.dse.metrics import METRICS
from tetrasim.dse.pareto import Vector, dominates, extend_front, front, hypervolume
from tetrasim.dse.samplers import grid_point, make_sampler, suggest
from tetrasim.dse.space import Point, StudySpec
from tetrasim.errors import UserError

if TYPE_CHECKING:
    import optuna

OUTCOME = "outcome"  # the trial attribute that holds everything: one record per trial
_SAME = 1e-3  # relative growth of the hypervolume below which the front counts as unchanged


@dataclass(frozen=True, eq=False)
class Done:
    """A finished trial. `metrics` is empty when the point cannot exist (`note` says why)."""

    number: int
    point: Point
    metrics: dict[str, float]
    violations: tuple[float, ...]
    note: str

    @property
    def feasible(self) -> bool:
        return bool(self.metrics) and all(v <= 0 for v in self.violations)

    def vector(self, spec: StudySpec) -> Vector:
        """Objectives as values to minimise."""
        return tuple(-self.metrics[m] if METRICS[m].maximise else self.metrics[m] for m in spec.objectives)


@dataclass(frozen=True, eq=False)
class State:
    """A study as recorded."""

    spec: StudySpec
    trials: tuple[Done, ...]
    running: int

    @property
    def front(self) -> tuple[Done, ...]:
        """Feasible trials that none dominates, by the first objective."""
        feasible = [t for t in self.trials if t.feasible]
        chosen = [feasible[i] for i in front([t.vector(self.spec) for t in feasible])]
        return tuple(sorted(chosen, key=lambda t: (t.vector(self.spec), t.number)))


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a study is."""

    done: int
    total: int
    feasible: int
    front: int
    elapsed_s: float

    @property
    def remaining_s(self) -> float:
        return self.elapsed_s / self.done * (self.total - self.done) if self.done else 0.0


def read_state(spec: StudySpec, study: optuna.Study) -> State:
    """Everything recorded so far."""
    done, running = [], 0
    for trial in study.get_trials(deepcopy=False):
        if not trial.state.is_finished():
            running += 1
            continue
        done.append(_recorded(trial))
    return State(spec, tuple(done), running)


def _recorded(trial: optuna.trial.FrozenTrial) -> Done:
    """A trial of the journal, which may be anyone's: what is no number is no metric."""
    kept = trial.user_attrs.get(OUTCOME)
    kept = kept if isinstance(kept, dict) else {}
    metrics, violations = kept.get("metrics"), kept.get("violations")
    return Done(
        trial.number,
        dict(trial.params),
        {str(k): float(v) for k, v in metrics.items() if _is_number(v)} if isinstance(metrics, dict) else {},
        tuple(float(v) for v in violations if _is_number(v)) if isinstance(violations, list) else (),
        str(kept.get("note", "")),
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def reasons(state: State) -> tuple[tuple[str, int, int], ...]:
    """Why trials have no metrics: (reason, how many, the first of them), the most frequent first."""
    found: dict[str, list[int]] = {}
    for trial in state.trials:
        if not trial.metrics:
            found.setdefault(trial.note or "no reason is recorded", []).append(trial.number)
    return tuple((note, len(n), n[0]) for note, n in sorted(found.items(), key=lambda x: (-len(x[1]), x[1])))


def run_study(
    spec: StudySpec,
    study: optuna.Study,
    executor: Executor,
    report: Callable[[Progress], None] = lambda _: None,
) -> State:
    """Ask, evaluate and record until the budget is spent or the front stalls; returns what is recorded."""
    driver = _Driver(spec, study, executor)
    started = time.monotonic()
    while driver.feed():
        driver.collect()
        report(driver.progress(time.monotonic() - started))
    return read_state(spec, study)


class _Driver:
    """The ask-and-tell loop's state."""

    def __init__(self, spec: StudySpec, study: optuna.Study, executor: Executor) -> None:
        import optuna

        self.spec, self.study, self.executor = spec, study, executor
        state = read_state(spec, study)
        self.done = list(state.trials)
        self.before = len(self.done)
        self.asked = len(self.done) + state.running
        grid = spec.grid_size
        self.total = (
            min(spec.search.trials, grid) if spec.search.sampler == "grid" and grid else spec.search.trials
        )
        self.pending: dict[int, optuna.trial.Trial] = {}
        self.reference: Vector | None = None
        self.best, self.since_better = 0.0, 0
        self.front: list[Vector] = []
        self.feasible = 0
        for trial in study.get_trials(deepcopy=False):
            if trial.state == optuna.trial.TrialState.RUNNING:
                self._submit(optuna.trial.Trial(study, trial._trial_id))
        for count in range(1, len(self.done) + 1):
            self._watch(self.done[:count])

    def feed(self) -> bool:
        """Hand out points while there are free slots; False when nothing is pending and none is wanted."""
        while len(self.pending) < self.executor.slots and self.asked < self.total and not self._stalled():
            self._ask()
        return bool(self.pending)

    def _ask(self) -> None:
        number = self.asked
        if self.spec.search.sampler == "grid":
            self.study.enqueue_trial(dict(grid_point(self.spec, number)))
        self.study.sampler = make_sampler(self.spec, number)
        self.asked += 1
        self._submit(self.study.ask())

    def _submit(self, trial: optuna.trial.Trial) -> None:
        self.study.sampler = make_sampler(self.spec, trial.number)
        point = suggest(trial, self.spec)
        note = self._screened(point) if self.spec.search.screen and self.front else ""
        if note:
            self.done.append(self._tell(trial, Outcome({}, note)))
            return
        self.pending[trial.number] = trial
        self.executor.submit(trial.number, point)

    def _screened(self, point: Point) -> str:
        """Why the point need not be simulated; empty when it must be."""
        from tetrasim.dse.bounds import optimistic
        from tetrasim.dse.candidate import resolve_point, target_of

        try:
            best = optimistic(resolve_point(self.spec, point), self.spec, target_of(self.spec, point))
        except UserError as refusal:
            return str(refusal).splitlines()[0]
        beaten = next((kept for kept in self.front if dominates(kept, best)), None)
        return "" if beaten is None else f"screened: at its very best {best} it is dominated by {beaten}"

    def collect(self) -> None:
        """Record the next finished job."""
        number, outcome = self.executor.wait()
        if outcome.note.startswith(DEFECT) and not any(t.metrics for t in self.done):
            # Nothing works yet: not a point, the installation. The trial stays open, to be run again.
            raise RuntimeError(f"trial {number}: {outcome.note.removeprefix(DEFECT)}")
        trial = self.pending.pop(number)
        self.done.append(self._tell(trial, outcome))
        self._watch(self.done)

    def _tell(self, trial: optuna.trial.Trial, outcome: Outcome) -> Done:
        import optuna

        metrics, note = outcome.metrics, outcome.note
        missing = [m for m in self._wanted() if m not in metrics]
        if metrics and missing:
            metrics, note = {}, f"this target has no {', '.join(missing)}"
        violations = self._violations(metrics) if metrics else ()
        kept = {"metrics": metrics, "note": note, "violations": list(violations)}
        trial.set_user_attr(OUTCOME, kept)
        if metrics:
            for i, violation in enumerate(violations):  # what optuna's samplers read
                trial.set_constraint(str(i), violation)
            self.study.tell(trial.number, [metrics[m] for m in self.spec.objectives])
        else:
            self.study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        return Done(trial.number, dict(trial.params), metrics, violations, note)

    def _wanted(self) -> list[str]:
        return [*self.spec.objectives, *(c.metric for c in self.spec.limits)]

    def _violations(self, metrics: dict[str, float]) -> tuple[float, ...]:
        out = [limit.violation(metrics[limit.metric]) for limit in self.spec.limits]
        if self.spec.must_fit:
            out.append(metrics.get(OVERFLOW, 0.0) - 1.0)
        return tuple(out)

    def _watch(self, done: list[Done]) -> None:
        """Follow the front, and its hypervolume for the stall rule; the last of `done` is new."""
        if done[-1].feasible:
            self.feasible += 1
            self.front = extend_front(self.front, done[-1].vector(self.spec))
        if not self.spec.search.stall:
            return
        if self.reference is None:
            if self.feasible == 10:
                vectors = [t.vector(self.spec) for t in done if t.feasible]
                self.reference = tuple(
                    max(c) + 0.1 * (max(c) - min(c)) + 1e-12 for c in zip(*vectors, strict=True)
                )
            return
        volume = hypervolume(self.front, self.reference)
        better = volume > self.best * (1 + _SAME)
        self.since_better = 0 if better else self.since_better + 1
        self.best = max(self.best, volume)

    def _stalled(self) -> bool:
        stall = self.spec.search.stall
        return bool(stall) and self.since_better >= stall

    def progress(self, elapsed_s: float) -> Progress:
        return Progress(len(self.done), self.total, self.feasible, len(self.front), elapsed_s)


def defects(state: State) -> tuple[Done, ...]:
    """Trials that ended in a defect of tetrasim."""
    return tuple(t for t in state.trials if t.note.startswith(DEFECT))


def front_rows(state: State) -> list[dict[str, Any]]:
    """The front as rows: trial, parameters, metrics."""
    return [{"trial": t.number, **t.point, **t.metrics} for t in state.front]
