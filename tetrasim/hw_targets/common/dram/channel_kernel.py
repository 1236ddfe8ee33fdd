"""The kernel that runs PIM channel programs, command by command, at max-plus readiness.

Two exact shortcuts, both off under `exact_slow`: a run of n equal column commands advances n - 1 strides at
once, and a loop whose relative state repeats (readiness and history relative to the clock, mode, open row)
jumps over the iterations that end before the next refresh falls due. The jump is exact because everything
the kernel decides depends on relative state and on "is a refresh due", and neither changes on the way. An
iteration that was found to repeat is kept per loop, so that after a refresh, or when the same program runs
again, one iteration suffices to recognise it.

All numbers of a channel, tables and state, lie in one int64 array `m`; `Place` says what is where. (A
compiled function that is handed many arrays spends more time counting references than a command takes to
issue.) State comes first, so that saving it is one copy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np

from tetrasim.sim.engine.jit import jit

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Places of the state vector, at the start of the arena.
CLOCK, MODE, OPEN, OPEN_ROW, ROW, DUE, VISIBLE = 0, 1, 2, 3, 4, 5, 6
SINCE, OPEN_CYCLES, PART, ACCOUNTED, LAST, HITS, LOGGED, FRESH_ROW, BEGUN = 7, 8, 9, 10, 11, 12, 13, 14, 15
TURN = 16  # bank whose refresh is next, where banks are refreshed one by one
STATE_SIZE = 17
_COMMAND, _ROW, _LOOP, _END, _WAIT, _CLOSE = 0, 1, 2, 3, 4, 5  # program.Op
_IDLE = -(1 << 39)  # anything older has no influence
_WHOLE = cast(int, np.int64(0))  # the whole channel as an address; typed: nothing is compiled twice


class Place(NamedTuple):
    """Where things are in the arena, and the channel's constants. C commands, L levels, N nodes, H history
    slots of D issues, P parts. Command properties (`mode` … `column`) are C numbers each."""

    commands: int
    levels: int
    nodes: int
    slots: int
    depth: int
    parts: int
    counts_at: int  # [C] issues; state from 0 to `state_end`
    parts_at: int  # [P + 1] cycles, the last is time outside programs
    ready_at: int  # [N, C]
    history_at: int  # [N, H, D]
    state_end: int
    path_at: int  # [2 or more, L] node per level of the whole channel (0), of one bank (1), and of the levels
    # that other banks share with it; -1: below
    gap_at: int  # [L, C, C]
    window_at: int  # [W, 5] level, before, after, gap, window
    window_start_at: int  # [C + 1]
    slot_at: int  # [C]
    mode_at: int
    part_at: int
    stride_at: int  # [2, C] distance of equal commands to the channel or one bank, 0: step one by one
    column_at: int
    activate: int
    bank_activate: int
    precharge: int
    bank_precharge: int
    activates: int
    switch: int  # mode-switch command, -1 none
    refresh: int  # refresh command, -1 none
    turns: int  # banks that are refreshed one after the other, 0: all at once
    turn_at: int  # [turns] path of each
    interval: int
    postpone: int
    fast: int
    memory: int  # cycles after which a past command has no influence: the largest gap
    log_at: int  # [log_size, 2] clock, command
    log_size: int


@jit
def earliest(c: int, at: int, m: NDArray[np.int64], o: Place) -> int:
    """First clock at which command `c` may issue at node `at`."""
    clock = max(m[CLOCK] + 1, m[VISIBLE])
    for level in range(o.levels):
        n = m[o.path_at + at * o.levels + level]
        if n < 0:
            break
        clock = max(clock, m[o.ready_at + n * o.commands + c])
    return int(clock)


@jit
def account(clock: int, m: NDArray[np.int64], o: Place) -> None:
    """Time up to `clock` belongs to the last command's part, and before the program began to nobody."""
    if clock <= m[ACCOUNTED]:
        return  # a refresh that went while the last program's data was still on its way
    if m[ACCOUNTED] < m[BEGUN]:
        idle = min(clock, m[BEGUN])
        m[o.parts_at + o.parts] += idle - m[ACCOUNTED]
        m[ACCOUNTED] = idle
    m[o.parts_at + m[PART]] += clock - m[ACCOUNTED]
    m[ACCOUNTED] = clock


@jit
def push_windows(c: int, at: int, clock: int, m: NDArray[np.int64], o: Place) -> None:
    """Keep the last issues of `c` on the path; raise readiness by the rules with a window above 1."""
    first, last = m[o.window_start_at + c], m[o.window_start_at + c + 1]
    if first == last:
        return
    slot = m[o.slot_at + c]
    for level in range(o.levels):
        n = m[o.path_at + at * o.levels + level]
        if n < 0:
            break
        h = o.history_at + (n * o.slots + slot) * o.depth
        for k in range(o.depth - 1, 0, -1):
            m[h + k] = m[h + k - 1]
        m[h] = clock
    for r in range(o.window_at + first * 5, o.window_at + last * 5, 5):
        n = m[o.path_at + at * o.levels + m[r]]
        if n >= 0:
            a = o.ready_at + n * o.commands + m[r + 2]
            h = o.history_at + (n * o.slots + slot) * o.depth
            m[a] = max(m[a], m[h + m[r + 4] - 1] + m[r + 3])


@jit
def issue_at(c: int, at: int, clock: int, m: NDArray[np.int64], o: Place) -> None:
    """Issue `c` at `clock`: account the time up to it, raise readiness along the path, keep the log."""
    account(clock, m, o)
    m[PART] = m[o.part_at + c]
    m[CLOCK] = clock
    m[LAST] = c
    m[o.counts_at + c] += 1
    if m[LOGGED] < o.log_size:
        m[o.log_at + 2 * m[LOGGED]] = clock
        m[o.log_at + 2 * m[LOGGED] + 1] = c
        m[LOGGED] += 1
    for level in range(o.levels):
        n = m[o.path_at + at * o.levels + level]
        if n < 0:
            break
        row = o.gap_at + (level * o.commands + c) * o.commands
        ready = o.ready_at + n * o.commands
        for a in range(o.commands):
            m[ready + a] = max(m[ready + a], clock + m[row + a])
    push_windows(c, at, clock, m, o)


@jit
def issue(c: int, at: int, m: NDArray[np.int64], o: Place) -> None:
    """Issue `c` as early as it may; a mode switch goes first, when `c` itself would have been legal."""
    mode = m[o.mode_at + c]
    switching = o.switch >= 0 and mode != m[MODE]
    while True:
        clock = earliest(c, at, m, o)
        issue_at(o.switch if switching else c, _WHOLE if switching else at, clock, m, o)
        if not switching:
            return
        m[MODE] = mode
        switching = False


@jit
def close_row(m: NDArray[np.int64], o: Place) -> None:
    """Precharge what is open."""
    if m[OPEN] > 0:
        kind = m[OPEN] - 1
        issue(o.precharge if kind == 0 else o.bank_precharge, kind, m, o)
        m[OPEN_CYCLES] += m[CLOCK] - m[SINCE]
        m[OPEN] = 0


@jit
def refresh_once(m: NDArray[np.int64], o: Place) -> None:
    """The refresh that is due: of all banks, or of the bank whose turn it is."""
    if o.turns == 0:
        issue(o.refresh, _WHOLE, m, o)
    else:
        issue(o.refresh, m[o.turn_at + m[TURN]], m, o)
        m[TURN] = (m[TURN] + 1) % o.turns
    m[DUE] += o.interval


@jit
def open_row(kind: int, m: NDArray[np.int64], o: Place) -> None:
    """Make the current row the open one in all banks (0) or in one bank (1); a due refresh goes first."""
    if m[OPEN] == kind + 1 and m[OPEN_ROW] == m[ROW]:
        return
    close_row(m, o)
    act = o.activate if kind == 0 else o.bank_activate
    if o.refresh >= 0:
        clock = earliest(act, kind, m, o)
        if clock >= m[DUE] + o.postpone:
            while m[DUE] <= clock:
                refresh_once(m, o)
                clock = earliest(act, kind, m, o)
    for _ in range(o.activates if kind == 0 else 1):
        issue(act, kind, m, o)
    m[OPEN] = kind + 1
    m[OPEN_ROW] = m[ROW]
    m[SINCE] = m[CLOCK]
    m[FRESH_ROW] = 1


@jit
def columns(c: int, repeats: int, at: int, m: NDArray[np.int64], o: Place) -> None:
    """`repeats` issues of `c`."""
    if m[o.column_at + c] == 1:
        m[HITS] += repeats - m[FRESH_ROW]
        m[FRESH_ROW] = 0
    stride = m[o.stride_at + at * o.commands + c]
    left = repeats
    while left > 0:
        issue(c, at, m, o)
        left -= 1
        if o.fast == 1 and stride > 0 and left > 1:  # to the last one: they are `stride` apart
            m[o.counts_at + c] += left - 1
            m[VISIBLE] = max(m[VISIBLE], m[CLOCK] + left * stride)
            left = 1


@jit
def same_relative(m: NDArray[np.int64], saved: NDArray[np.int64], o: Place) -> bool:
    """Is the channel, relative to its clock, where it was when `saved` was taken?"""
    now, then = m[CLOCK], saved[CLOCK]
    for i in (MODE, OPEN, PART, FRESH_ROW):
        if m[i] != saved[i]:
            return False
    if m[OPEN_ROW] - m[ROW] != saved[OPEN_ROW] - saved[ROW] or m[ACCOUNTED] - now != saved[ACCOUNTED] - then:
        return False
    if max(m[VISIBLE] - now, 0) != max(saved[VISIBLE] - then, 0):
        return False
    for i in range(o.ready_at, o.history_at):
        if max(m[i] - now, 0) != max(saved[i] - then, 0):
            return False
    for i in range(o.history_at, o.state_end):
        if max(m[i] - now, -o.memory) != max(saved[i] - then, -o.memory):
            return False
    return True


@jit
def jump(
    times: int, m: NDArray[np.int64], start: NDArray[np.int64], end: NDArray[np.int64], o: Place
) -> None:
    """Advance by `times` copies of the iteration that led from `start` to `end`."""
    delta = (end[CLOCK] - start[CLOCK]) * times
    for i in range(o.ready_at, o.history_at):
        if m[i] > m[CLOCK]:
            m[i] += delta
    for i in range(o.history_at, o.state_end):
        if m[i] > _IDLE:
            m[i] += delta
    for i in range(o.counts_at, o.ready_at):
        m[i] += (end[i] - start[i]) * times
    m[OPEN_CYCLES] += (end[OPEN_CYCLES] - start[OPEN_CYCLES]) * times
    if end[SINCE] > start[CLOCK]:  # the iteration opens rows; the one it closes first may be older or younger
        if start[OPEN] > 0:
            then, after = start[SINCE] - start[CLOCK], end[SINCE] - end[CLOCK]
            now = m[SINCE] - m[CLOCK]
            m[OPEN_CYCLES] += (then - now) + (times - 1) * (then - after)
        m[SINCE] = m[CLOCK] + delta - (end[CLOCK] - end[SINCE])
    m[HITS] += (end[HITS] - start[HITS]) * times
    m[VISIBLE] += delta
    m[CLOCK] += delta
    m[ACCOUNTED] += delta


@jit
def begin(start: int, m: NDArray[np.int64], o: Place) -> None:
    """The channel idles until `start`; refreshes that fall due before go on time."""
    m[BEGUN] = start
    if o.refresh >= 0:
        while m[DUE] <= start:
            m[VISIBLE] = max(m[VISIBLE], m[DUE])
            close_row(m, o)
            refresh_once(m, o)
    m[VISIBLE] = max(m[VISIBLE], start)


@jit
def finish(drain: NDArray[np.int64], m: NDArray[np.int64], o: Place) -> int:
    """The clock at which the last command's data has arrived (`drain` cycles after it): the program's end."""
    end = max(m[BEGUN], m[ACCOUNTED])
    if m[LAST] >= 0:
        end = max(end, m[CLOCK] + drain[m[LAST]])
    account(end, m, o)
    return int(end)


# Rows of the loop stack: program row of the LOOP, iterations left, row register at the start of the
# iteration and before the loop, and whether the state at the end of the last iteration is saved.
_AT, _LEFT, _BASE, _OUTER, _KNOWN = 0, 1, 2, 3, 4


@jit
def copy_state(source: NDArray[np.int64], target: NDArray[np.int64], o: Place) -> None:
    """Copy the state part of an arena (a loop: slices take seconds to compile)."""
    for i in range(o.state_end):
        target[i] = source[i]


@jit
def skip_iterations(
    d: int,
    step: int,
    loops: NDArray[np.int64],
    m: NDArray[np.int64],
    saved: NDArray[np.int64],
    steady: NDArray[np.int64],
    o: Place,
) -> None:
    """At the end of an iteration: jump as far as the relative state repeats, else remember the state.

    `steady` [2, state] is the repeating iteration of this loop, its start and its end, once one is known.
    """
    mark = saved[d]
    start, end = steady[0], steady[1]
    if loops[_KNOWN, d] == 1 and m[DUE] == mark[DUE] and same_relative(m, mark, o):
        copy_state(mark, start, o)
        copy_state(m, end, o)
    if end[CLOCK] > start[CLOCK] and same_relative(m, end, o):
        times = loops[_LEFT, d]
        if o.refresh >= 0:
            times = min(times, (m[DUE] - 1 - m[CLOCK]) // (end[CLOCK] - start[CLOCK]))
        if times > 0:
            jump(times, m, start, end, o)
            loops[_LEFT, d] -= times
            loops[_BASE, d] += step * times
            if m[OPEN_ROW] >= 0:
                m[OPEN_ROW] += step * times
            m[ROW] = loops[_BASE, d]
        loops[_KNOWN, d] = 0
    elif loops[_LEFT, d] > 1:
        copy_state(m, mark, o)
        loops[_KNOWN, d] = 1


@jit
def end_iteration(
    d: int,
    program: NDArray[np.int64],
    here: int,
    loops: NDArray[np.int64],
    m: NDArray[np.int64],
    saved: NDArray[np.int64],
    steady: NDArray[np.int64],
    o: Place,
) -> int:
    """Row to go on from: the loop's start while iterations are left, this END otherwise."""
    begun = loops[_AT, d]
    step = program[begun, 2]
    loops[_LEFT, d] -= 1
    loops[_BASE, d] += step
    m[ROW] = loops[_BASE, d]
    if o.fast == 1 and loops[_LEFT, d] > 0:
        skip_iterations(d, step, loops, m, saved, steady[program[here, 1]], o)
    if loops[_LEFT, d] > 0:
        return int(begun)
    if program[begun, 3] == 1:
        m[ROW] = loops[_OUTER, d]
    return here


@jit
def run_program(
    program: NDArray[np.int64],
    first: int,
    last: int,
    m: NDArray[np.int64],
    saved: NDArray[np.int64],
    loops: NDArray[np.int64],
    steady: NDArray[np.int64],
    o: Place,
) -> None:
    """Execute rows `first:last` of `program`.

    `saved` [MAX_DEPTH, state] and `loops` are scratch, `steady` [loops of all programs, 2, state] is kept.
    """
    depth = 0
    i = first
    while i < last:
        op, a, b, c = program[i, 0], program[i, 1], program[i, 2], program[i, 3]
        if op == _COMMAND:
            columns(a, b, c, m, o)
        elif op == _ROW:
            m[ROW] += a
            open_row(b, m, o)
        elif op == _WAIT:
            m[VISIBLE] = max(m[VISIBLE], m[CLOCK] + a)
        elif op == _CLOSE:
            close_row(m, o)
        elif op == _LOOP:
            loops[_AT, depth], loops[_LEFT, depth], loops[_KNOWN, depth] = i, a, 0
            loops[_BASE, depth] = loops[_OUTER, depth] = m[ROW]
            depth += 1
        elif op == _END:
            target = end_iteration(depth - 1, program, i, loops, m, saved, steady, o)
            if target == i:
                depth -= 1
            i = target
        i += 1
