"""`Timeline`: when every task ran and why it did not start sooner; the critical path; totals of many runs.

A task's start equals the end of the dependency, or the release of the resource, that came last: so walking
causes back from the last end visits contiguous intervals, and the critical path sums exactly to the total.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Cause(IntEnum):
    """Why a task started when it did."""

    START = 0  # nothing held it: time zero, or its release time
    DEPENDENCY = 1
    RESOURCE = 2


@dataclass(frozen=True, eq=False)
class Timeline:
    """Integer picoseconds; `cause_task` is -1 for `Cause.START`."""

    start_ps: NDArray[np.int64]  # [T]
    end_ps: NDArray[np.int64]  # [T] result ready (start + latency)
    free_ps: NDArray[np.int64]  # [T] resource free again (start + busy)
    cause: NDArray[np.int8]  # [T]
    cause_task: NDArray[np.int32]  # [T]

    @property
    def total_ps(self) -> int:
        return int(self.end_ps.max()) if len(self.end_ps) else 0


@dataclass(frozen=True)
class Counter:
    """A quantity over a run's time, for the trace: `values[i]` (not negative) holds from `time_ps[i]` on.
    `once`: not of the run itself but a comparison, shown with the first run of a phase."""

    name: str
    unit: str
    time_ps: tuple[int, ...]
    values: tuple[int, ...]
    once: bool = False


@dataclass(frozen=True, eq=False)
class CriticalPath:
    """`tasks` in time order; `advance_ps[i]` is how far task i moves time on: they sum to
    `Timeline.total_ps`."""

    tasks: NDArray[np.int32]  # [K]
    advance_ps: NDArray[np.int64]  # [K]


@dataclass(frozen=True, eq=False)
class RunTotals:
    """What R runs of one phase cost (one row per run: a prefill has R = 1, a generation one row per step).

    `part_ps` decomposes each run's critical path: rows sum exactly to `total_ps`. `energy_pj` holds dynamic
    plus static energy by component. Node columns are sums over the runs: `node_ps` is the time on the
    critical path (sums to total_ps.sum()), `node_busy_ps` the resource time, overlapped or not. Nodes that
    run as one kernel each have their share (`program.Sharing`).
    """

    total_ps: NDArray[np.int64]  # [R]
    part_names: tuple[str, ...]
    part_ps: NDArray[np.int64]  # [R, P]
    component_names: tuple[str, ...]
    energy_pj: NDArray[np.float64]  # [R, C]
    level_names: tuple[str, ...]
    level_bytes: NDArray[np.int64]  # [R, L]
    resource_names: tuple[str, ...]
    busy_ps: NDArray[np.int64]  # [R, resources]
    macs: NDArray[np.int64]  # [R]
    tasks: NDArray[np.int64]  # [R]
    node_ps: NDArray[np.int64]  # [N]
    node_busy_ps: NDArray[np.int64]  # [N]
    node_energy_pj: NDArray[np.float64]  # [N] dynamic only
    node_bytes: NDArray[np.int64]  # [N] summed over levels' outermost (last) level
    node_macs: NDArray[np.int64]  # [N]
    node_part_ps: NDArray[np.int64]  # [N, P] busy time by part
    outside_ps: int = 0  # critical-path time of tasks that belong to no node: completes the sum of `node_ps`
