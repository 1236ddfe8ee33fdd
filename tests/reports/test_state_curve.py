"""The KV curve of the HTML report starts at the first step's state and ends at the last's."""

from __future__ import annotations

from dataclasses import replace

import fake
import pytest

from tetrasim.reports import charts
from tetrasim.reports.document import document
from tetrasim.reports.formats import index_html


@pytest.mark.parametrize(("first", "slope"), [(1_000_000, 100_000), (4_000_000, 0)])
def test_a_cache_grows_and_a_recurrent_state_stays(
    first: int, slope: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: dict[str, tuple[list[float], list[float]]] = {}
    plain = charts.curve

    def curve(xs: list[float], ys: list[float], *texts: object) -> object:
        drawn[str(texts[0])] = (xs, ys)
        return plain(xs, ys, *texts)  # type: ignore[arg-type]

    monkeypatch.setattr(charts, "curve", curve)
    found = fake.result()
    (memory,) = found.memory
    steps = len(found.workload.contexts())
    memory = replace(memory, state_bytes=first + slope * (steps - 1), first_state_bytes=first)
    index_html.render(document((replace(found, memory=(memory,)),)))
    keys, sizes = drawn["keys cached"]
    assert keys == [float(c + 1) for c in found.workload.contexts()]
    assert sizes == pytest.approx([first + slope * i for i in range(steps)])
