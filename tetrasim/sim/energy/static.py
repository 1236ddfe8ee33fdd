"""Static energy: power that flows whether or not a task runs (leakage, refresh, idle clocks) times time.

1 W x 1 ps = 1 pJ, so watts times the run's picoseconds are picojoules without a conversion. Dynamic energy
is charged to tasks where they are priced.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def add_static_energy(
    static_power_w: Sequence[tuple[str, float]],
    component_names: Sequence[str],
    total_ps: NDArray[np.int64],
    energy_pj: NDArray[np.float64],
) -> None:
    """Add power x time to each run's components: `total_ps` [R], `energy_pj` [R, C] in place."""
    for component, watts in static_power_w:
        energy_pj[:, component_names.index(component)] += watts * total_ps
