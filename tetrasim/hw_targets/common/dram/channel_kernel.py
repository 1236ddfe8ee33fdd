"""The kernel that runs PIM channel programs, command by command, at max-plus readiness.

Two exact shortcuts, both off under `exact_slow`: a run of n equal column commands advances n - 1 strides at
once, and a loop whose relative state repeats (readiness and history relative to the clock, mode, open row)
jumps over the iterations that end before the next refresh falls due. The jump is exact because everything
the kernel decides depends on relative state and on "is a refresh due", and neither changes on the way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tetrasim.sim.engine.jit import jit

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Fields of the state vector.
CLOCK, MODE, OPEN, OPEN_ROW, ROW, DUE, VISIBLE = 0, 1, 2, 3, 4, 5, 6
SINCE, OPEN_CYCLES, PART, ACCOUNTED, LAST, HITS, LOGGED, FRESH_ROW, BEGUN = 7, 8, 9, 10, 11, 12, 13, 14, 15
STATE_SIZE = 16
MAX_DEPTH = 8
_COMMAND, _ROW, _LOOP, _END, _WAIT, _CLOSE = 0, 1, 2, 3, 4, 5  # program.Op
_IDLE = -(1 << 39)  # anything older has no influence


class Wires(NamedTuple):
    """What does not change while a channel runs."""

    path: NDArray[np.int32]  # [N, L]
    gap: NDArray[np.int64]  # [L, C, C]
    window: NDArray[np.int64]  # [W, 5]
    window_start: NDArray[np.int64]  # [C + 1]
    node: NDArray[np.int64]  # [2] whole channel, one bank
    mode: NDArray[np.int64]  # [C] mode a command needs
    part: NDArray[np.int64]  # [C] part the time after a command belongs to
    stride: NDArray[np.int64]  # [C] distance of equal column commands, 0: step one by one
    column: NDArray[np.int64]  # [C] 1: a column command of an open row
    activate: NDArray[np.int64]  # [2] whole channel, one bank
    activates: int
    precharge: NDArray[np.int64]  # [2]
    switch: int  # mode-switch command, -1 none
    refresh: int  # refresh command, -1 none
    interval: int
    postpone: int
    fast: bool
    memory: int  # cycles after which a past command has no influence: the largest gap


class State(NamedTuple):
    """Mutable arrays of a running channel."""

    vector: NDArray[np.int64]  # [STATE_SIZE]
    ready: NDArray[np.int64]  # [N, C]
    history: NDArray[np.int64]  # [N, C, D]
    counts: NDArray[np.int64]  # [C] issues
    parts: NDArray[np.int64]  # [P + 1] cycles, the last entry is time outside programs
    log: NDArray[np.int64]  # [M, 2] clock and command, as far as it has room


@jit
def earliest(c: int, at: int, w: Wires, s: State) -> int:
    """First clock at which command `c` may issue at node `at`."""
    clock = max(s.vector[CLOCK] + 1, s.vector[VISIBLE])
    for level in range(w.path.shape[1]):
        n = w.path[at, level]
        if n < 0:
            break
        clock = max(clock, s.ready[n, c])
    return int(clock)


@jit
def account(clock: int, s: State) -> None:
    """Time up to `clock` belongs to the last command's part, and before the program began to nobody."""
    v = s.vector
    if v[ACCOUNTED] < v[BEGUN]:
        idle = min(clock, v[BEGUN])
        s.parts[-1] += idle - v[ACCOUNTED]
        v[ACCOUNTED] = idle
    s.parts[v[PART]] += clock - v[ACCOUNTED]
    v[ACCOUNTED] = clock


@jit
def issue_at(c: int, at: int, clock: int, w: Wires, s: State) -> None:
    """Issue `c` at `clock`: account the time up to it, raise readiness along the path, keep the log."""
    v = s.vector
    account(clock, s)
    v[PART] = w.part[c]
    v[CLOCK] = clock
    v[LAST] = c
    s.counts[c] += 1
    if v[LOGGED] < len(s.log):
        s.log[v[LOGGED], 0] = clock
        s.log[v[LOGGED], 1] = c
        v[LOGGED] += 1
    for level in range(w.path.shape[1]):
        n = w.path[at, level]
        if n < 0:
            break
        for a in range(w.gap.shape[1]):
            s.ready[n, a] = max(s.ready[n, a], clock + w.gap[level, c, a])
    first, last = w.window_start[c], w.window_start[c + 1]
    if first < last:
        for level in range(w.path.shape[1]):
            n = w.path[at, level]
            if n < 0:
                break
            for k in range(s.history.shape[2] - 1, 0, -1):
                s.history[n, c, k] = s.history[n, c, k - 1]
            s.history[n, c, 0] = clock
        for r in range(first, last):
            n = w.path[at, w.window[r, 0]]
            if n >= 0:
                a = w.window[r, 2]
                s.ready[n, a] = max(s.ready[n, a], s.history[n, c, w.window[r, 4] - 1] + w.window[r, 3])


@jit
def issue(c: int, at: int, w: Wires, s: State) -> None:
    """Issue `c` as early as it may; a mode switch goes first, as early as `c` itself would have been legal."""
    v = s.vector
    clock = earliest(c, at, w, s)
    if w.switch >= 0 and w.mode[c] != v[MODE]:
        issue_at(w.switch, w.node[0], clock, w, s)
        v[MODE] = w.mode[c]
        clock = earliest(c, at, w, s)
    issue_at(c, at, clock, w, s)


@jit
def close_row(w: Wires, s: State) -> None:
    """Precharge what is open."""
    v = s.vector
    if v[OPEN] > 0:
        kind = v[OPEN] - 1
        issue(w.precharge[kind], w.node[kind], w, s)
        v[OPEN_CYCLES] += v[CLOCK] - v[SINCE]
        v[OPEN] = 0


@jit
def refresh_once(not_before: int, w: Wires, s: State) -> None:
    """Close, refresh, and set the next due clock."""
    v = s.vector
    v[VISIBLE] = max(v[VISIBLE], not_before)
    close_row(w, s)
    issue(w.refresh, w.node[0], w, s)
    v[DUE] += w.interval


@jit
def open_row(kind: int, w: Wires, s: State) -> None:
    """Make the current row the open one in all banks (0) or in one bank (1); a due refresh goes first."""
    v = s.vector
    if v[OPEN] == kind + 1 and v[OPEN_ROW] == v[ROW]:
        return
    close_row(w, s)
    act = w.activate[kind]
    if w.refresh >= 0:
        clock = earliest(act, w.node[kind], w, s)
        if clock >= v[DUE] + w.postpone:
            while v[DUE] <= clock:
                refresh_once(0, w, s)
                clock = earliest(act, w.node[kind], w, s)
    for _ in range(w.activates if kind == 0 else 1):
        issue(act, w.node[kind], w, s)
    v[OPEN] = kind + 1
    v[OPEN_ROW] = v[ROW]
    v[SINCE] = v[CLOCK]
    v[FRESH_ROW] = 1


@jit
def columns(c: int, repeats: int, at: int, w: Wires, s: State) -> None:
    """`repeats` issues of `c`."""
    v = s.vector
    stride = w.stride[c]
    if w.column[c] == 1:
        v[HITS] += repeats - v[FRESH_ROW]
        v[FRESH_ROW] = 0
    issue(c, at, w, s)
    if repeats == 1:
        return
    if stride > 0 and w.fast:
        clock = v[CLOCK] + (repeats - 1) * stride
        s.counts[c] += repeats - 2
        issue_at(c, at, clock, w, s)
    else:
        for _ in range(repeats - 1):
            issue(c, at, w, s)


@jit
def same_relative(s: State, saved: State, w: Wires) -> bool:
    """Is the channel, relative to its clock, where it was when `saved` was taken?"""
    v, o = s.vector, saved.vector
    now, then = v[CLOCK], o[CLOCK]
    if v[MODE] != o[MODE] or v[OPEN] != o[OPEN] or v[DUE] != o[DUE] or v[PART] != o[PART]:
        return False
    if v[OPEN_ROW] - v[ROW] != o[OPEN_ROW] - o[ROW] or v[FRESH_ROW] != o[FRESH_ROW]:
        return False
    if v[ACCOUNTED] - now != o[ACCOUNTED] - then or max(v[VISIBLE] - now, 0) != max(o[VISIBLE] - then, 0):
        return False
    for n in range(s.ready.shape[0]):
        for c in range(s.ready.shape[1]):
            if max(s.ready[n, c] - now, 0) != max(saved.ready[n, c] - then, 0):
                return False
            for k in range(s.history.shape[2]):
                if max(s.history[n, c, k] - now, -w.memory) != max(saved.history[n, c, k] - then, -w.memory):
                    return False
    return True


@jit
def keep(s: State, saved: State) -> None:
    """Copy the state."""
    saved.vector[:] = s.vector
    saved.ready[:] = s.ready
    saved.history[:] = s.history
    saved.counts[:] = s.counts
    saved.parts[:] = s.parts


@jit
def jump(s: State, saved: State, times: int) -> None:
    """Advance by `times` copies of what happened since `saved`."""
    v, o = s.vector, saved.vector
    delta = (v[CLOCK] - o[CLOCK]) * times
    for n in range(s.ready.shape[0]):
        for c in range(s.ready.shape[1]):
            if s.ready[n, c] > v[CLOCK]:
                s.ready[n, c] += delta
            for k in range(s.history.shape[2]):
                if s.history[n, c, k] > _IDLE:
                    s.history[n, c, k] += delta
    for c in range(len(s.counts)):
        s.counts[c] += (s.counts[c] - saved.counts[c]) * times
    for p in range(len(s.parts)):
        s.parts[p] += (s.parts[p] - saved.parts[p]) * times
    if v[SINCE] > o[CLOCK]:
        v[SINCE] += delta
    v[OPEN_CYCLES] += (v[OPEN_CYCLES] - o[OPEN_CYCLES]) * times
    v[HITS] += (v[HITS] - o[HITS]) * times
    v[VISIBLE] += delta
    v[CLOCK] += delta
    v[ACCOUNTED] += delta


@jit
def begin(start: int, w: Wires, s: State) -> None:
    """The channel idles until `start`; refreshes that fall due before go on time."""
    v = s.vector
    v[BEGUN] = start
    if w.refresh >= 0:
        while v[DUE] <= start:
            refresh_once(v[DUE], w, s)
    v[VISIBLE] = max(v[VISIBLE], start)


@jit
def finish(drain: NDArray[np.int64], s: State) -> int:
    """The clock at which the last command's data has arrived (`drain` cycles after it): the program's end."""
    v = s.vector
    end = max(v[BEGUN], v[ACCOUNTED])
    if v[LAST] >= 0:
        end = max(end, v[CLOCK] + drain[v[LAST]])
    account(end, s)
    return int(end)


@jit
def run_program(program: NDArray[np.int64], first: int, last: int, w: Wires, s: State, saved: State) -> None:
    """Execute rows `first:last` of `program`. `saved` is scratch: State arrays with a leading depth axis."""
    v = s.vector
    at = np.zeros(MAX_DEPTH, np.int64)  # row index of the LOOP
    left = np.zeros(MAX_DEPTH, np.int64)
    base = np.zeros(MAX_DEPTH, np.int64)  # row register at the start of the iteration
    outer = np.zeros(MAX_DEPTH, np.int64)
    known = np.zeros(MAX_DEPTH, np.bool_)
    depth = 0
    i = first
    while i < last:
        op, a, b, c = program[i, 0], program[i, 1], program[i, 2], program[i, 3]
        if op == _COMMAND:
            columns(a, b, w.node[c], w, s)
        elif op == _ROW:
            v[ROW] += a
            open_row(b, w, s)
        elif op == _WAIT:
            v[VISIBLE] = max(v[VISIBLE], v[CLOCK] + a)
        elif op == _CLOSE:
            close_row(w, s)
        elif op == _LOOP:
            at[depth], left[depth], base[depth], outer[depth], known[depth] = i, a, v[ROW], v[ROW], False
            depth += 1
        elif op == _END:
            d = depth - 1
            left[d] -= 1
            begun = at[d]
            step = program[begun, 2]
            base[d] += step
            v[ROW] = base[d]
            if w.fast and left[d] > 1:
                mark = State(
                    saved.vector[d], saved.ready[d], saved.history[d], saved.counts[d], saved.parts[d], s.log
                )
                if known[d] and same_relative(s, mark, w):
                    times = left[d]
                    delta = v[CLOCK] - mark.vector[CLOCK]
                    if w.refresh >= 0 and delta > 0:
                        times = min(times, (v[DUE] - 1 - v[CLOCK]) // delta)
                    if times > 0:
                        jump(s, mark, times)
                        left[d] -= times
                        base[d] += step * times
                        if v[OPEN_ROW] >= 0:
                            v[OPEN_ROW] += step * times
                        v[ROW] = base[d]
                    known[d] = False
                if left[d] > 1:
                    keep(s, mark)
                    known[d] = True
            if left[d] > 0:
                i = begun
            else:
                if program[begun, 3] == 1:
                    v[ROW] = outer[d]
                depth = d
        i += 1
