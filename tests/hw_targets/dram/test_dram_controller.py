"""The event-skipping FR-FCFS controller equals a plain cycle-by-cycle one."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tetrasim.hw_targets.common.dram.controller import QUEUE, serve_requests
from tetrasim.hw_targets.common.dram.tables import Tables
from tetrasim.hw_targets.common.dram.yaml_device import find_tables

Log = list[tuple[int, str, int]]


class Plain:
    """Readiness by looking up every past command; one clock at a time."""

    def __init__(self, tables: Tables) -> None:
        self.t = tables
        self.first = tables.nodes - tables.device.banks
        self.past: dict[tuple[int, int], list[int]] = {}

    def ready(self, c: int, bank: int) -> int:
        t = self.t
        node = t.node() if bank < 0 else self.first + bank
        clock = 0
        for level, n in enumerate(int(n) for n in t.path[node] if n >= 0):
            for b in range(len(t.names)):
                seen = self.past.get((n, b), [])
                if seen:
                    clock = max(clock, seen[-1] + int(t.gap[level, b, c]))
            for at, b, a, gap, window in t.window.tolist():
                seen = self.past.get((n, b), [])
                if at == level and a == c and len(seen) >= window:
                    clock = max(clock, seen[-window] + gap)
        return clock

    def issue(self, c: int, bank: int, clock: int) -> None:
        node = self.t.node() if bank < 0 else self.first + bank
        for n in (int(n) for n in self.t.path[node] if n >= 0):
            self.past.setdefault((n, c), []).append(clock)


def plain_controller(requests: list[tuple[int, int, bool]], tables: Tables, interval: int) -> Log:  # noqa: C901  one plain loop
    act, pre, rd, wr, preab, refab = (tables.index(n) for n in ("ACT", "PREpb", "RD", "WR", "PREab", "REFab"))
    plain, opened, log = Plain(tables), dict[int, int](), Log()
    waiting, active, refreshes = list[int](), list[int](), 0
    arrived = done = clock = 0

    def wanted(q: int) -> int:
        bank, row, write = requests[q]
        if bank not in opened:
            return act
        return pre if opened[bank] != row else (wr if write else rd)

    def first_ready(queue: list[int]) -> int | None:
        return next((q for q in queue if plain.ready(wanted(q), requests[q][0]) <= clock), None)

    while done < len(requests):
        clock += 1
        if arrived < len(requests) and len(waiting) < QUEUE:
            waiting.append(arrived)
            arrived += 1
        refreshes += bool(interval) and clock % interval == 0
        q, c = first_ready(active), -1
        if q is not None:
            c = wanted(q)
        elif refreshes:
            c = preab if opened else refab
            if plain.ready(c, -1) > clock or (c == preab and active):
                continue
        else:
            q = first_ready(waiting)
            if q is None or (wanted(q) == pre and any(requests[a][0] == requests[q][0] for a in active)):
                continue
            c = wanted(q)
        bank = -1 if q is None else requests[q][0]
        plain.issue(c, bank, clock)
        log.append((clock, tables.names[c], bank))
        if q is None:
            opened.clear()
            refreshes -= c == refab
        elif c == act:
            opened[bank] = requests[q][1]
            if q in waiting and len(active) < QUEUE:
                waiting.remove(q)
                active.append(q)
        elif c == pre:
            del opened[bank]
        else:
            (waiting if q in waiting else active).remove(q)
            done += 1
    return log


@settings(max_examples=15, deadline=None)
@given(
    drawn=st.lists(st.tuples(st.integers(0, 15), st.integers(0, 2), st.booleans()), min_size=1, max_size=70),
    interval=st.sampled_from([0, 400]),
)
def test_equals_cycle_by_cycle(drawn: list[tuple[int, int, bool]], interval: int) -> None:
    tables = find_tables("gddr6")
    served = serve_requests(
        np.array([b for b, _, _ in drawn]),
        np.array([r for _, r, _ in drawn]),
        np.array([w for _, _, w in drawn]),
        tables,
        until=len(drawn),
        refresh_interval=interval,
    )
    got = [
        (int(clock), tables.names[c], int(b))
        for clock, c, b in zip(served.clock, served.command, served.bank, strict=True)
    ]
    assert got == plain_controller(drawn, tables, interval)
