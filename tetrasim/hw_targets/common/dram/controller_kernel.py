"""The kernel of the FR-FCFS controller: event-skipping, over per-bank heads.

All requests of a bank that hit its open row become ready together, and so do all that do not; so the oldest
of each kind stands for all, and a choice looks at three candidates per bank (with the one in the active
buffer) instead of the whole queue. `ready[command, bank]` holds, all levels included, the first clock at
which a command may issue there; an issue raises it by one row of a table over pairs of addresses.

Tables and state lie in one int64 array `m`, as `Place` says (a compiled function that is handed many arrays
spends more time counting references than a command takes). A request is one number, `pack`ed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tetrasim.sim.engine.jit import jit

if TYPE_CHECKING:
    from numpy.typing import NDArray

COMMANDS = ("RD", "ACT", "PREpb", "WR", "REFpb", "PREab", "REFab")
_RD, _ACT, _PRE, _WR, _REFPB, _PREAB, _REFAB = 0, 1, 2, 3, 4, 5, 6
BANK_COMMANDS = 5  # the first five address one bank
QUEUE_COMMANDS = 4  # and the first four serve requests
IDLE = -(1 << 40)
_FAR = 1 << 60
NONE = 1 << 40  # no such request
_HIGH, _LOW = 0.8, 0.2  # watermarks of the write queue
# Single numbers of the state: requests waiting (reads, writes), requests in the active buffer.
_READS, _WRITES, _ACTIVE = 0, 1, 2
STATE_SIZE = 4
_ROW_SHIFT, MAX_BANKS = 11, 1024


class Place(NamedTuple):
    """Where things are in the arena. B banks; an address is a bank, or B for the channel. Lists come twice:
    B for reads, then B for writes."""

    banks: int
    queue: int
    live: int  # bank-level commands that may occur: the first so many of COMMANDS
    windows: int
    levels: int
    nodes: int
    depth: int
    ready: int  # [BANK_COMMANDS, B], then PREab and REFab of the channel
    opened: int  # [B] row, -1 closed
    active: int  # [B] request, NONE
    active_write: int  # [B] 1: that is a write
    hit: int  # [2 * B] oldest waiting request of the open row
    other: int  # [2 * B] oldest of another row
    length: int  # [2 * B]
    lists: int  # [2 * B, Q] waiting requests in order of arrival
    history: int  # [W, nodes, depth]
    push: int  # [commands, B + 1, BANK_COMMANDS * B + 2] gap from a command at an address to every other
    window: int  # [W, 5] level, before, after, window, gap
    path: int  # [B + 1, levels] node, -1 below the address


def pack(bank: NDArray[np.int64], row: NDArray[np.int64], write: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Requests as single numbers."""
    packed: NDArray[np.int64] = (row << _ROW_SHIFT) | (bank << 1) | write
    return packed


@jit
def _row(request: int) -> int:
    return request >> _ROW_SHIFT


@jit
def _bank(request: int) -> int:
    return (request >> 1) & (MAX_BANKS - 1)


@jit
def _push_windows(c: int, at: int, clock: int, m: NDArray[np.int64], o: Place) -> None:
    """Rules that look back several issues of `c`."""
    for r in range(o.windows):
        rule = o.window + 5 * r
        if m[rule + 1] != c:
            continue
        n = m[o.path + at * o.levels + m[rule]]
        if n < 0:
            continue
        past = o.history + (r * o.nodes + n) * o.depth
        last = m[rule + 3] - 1
        for k in range(last, 0, -1):
            m[past + k] = m[past + k - 1]
        m[past] = clock
        least = m[past + last] + m[rule + 4]
        after = m[rule + 2]
        if after >= BANK_COMMANDS:
            if m[o.path + o.banks * o.levels + m[rule]] == n:
                i = o.ready + BANK_COMMANDS * o.banks + after - BANK_COMMANDS
                m[i] = max(m[i], least)
            continue
        for b in range(o.banks):
            if m[o.path + b * o.levels + m[rule]] == n:
                i = o.ready + after * o.banks + b
                m[i] = max(m[i], least)


@jit
def _push(c: int, at: int, clock: int, m: NDArray[np.int64], o: Place) -> None:
    """`c` issues at address `at`: raise what it holds back."""
    width = BANK_COMMANDS * o.banks + 2
    gaps = o.push + (c * (o.banks + 1) + at) * width
    ready, gap = np.uint64(o.ready), np.uint64(gaps)
    for i in range(np.uint64(o.live * o.banks)):
        m[ready + i] = max(m[ready + i], clock + m[gap + i])
    for k in range(width - 2, width):
        m[o.ready + k] = max(m[o.ready + k], clock + m[gaps + k])
    if c != _RD:
        _push_windows(c, at, clock, m, o)


@jit
def _heads(at: int, opened: int, requests: NDArray[np.int64], m: NDArray[np.int64], o: Place) -> None:
    """Find the oldest hit and the oldest other request of a list again."""
    hit, other = NONE, NONE
    first = o.lists + at * o.queue
    for i in range(first, first + m[o.length + at]):
        if _row(requests[m[i]]) == opened:
            if hit == NONE:
                hit = m[i]
                if other != NONE:
                    break
        elif other == NONE:
            other = m[i]
            if hit != NONE:
                break
    m[o.hit + at], m[o.other + at] = hit, other


@jit
def _set_row(b: int, row: int, requests: NDArray[np.int64], m: NDArray[np.int64], o: Place) -> None:
    """Bank `b` has `row` open from now on (-1: closed)."""
    m[o.opened + b] = row
    _heads(b, row, requests, m, o)
    at = o.banks + b
    if m[o.hit + at] != NONE or m[o.other + at] != NONE:
        _heads(at, row, requests, m, o)


@jit
def _take(at: int, q: int, kind: int, m: NDArray[np.int64], o: Place) -> int:
    """Take a request out of its list; the others keep their order. Its former place."""
    end = o.lists + at * o.queue + m[o.length + at] - 1
    i = o.lists + at * o.queue
    while m[i] != q:
        i += 1
    for k in range(i, end):
        m[k] = m[k + 1]
    m[o.length + at] -= 1
    m[kind] -= 1
    return int(i)


@jit
def _take_hit(b: int, q: int, kind: int, requests: NDArray[np.int64], m: NDArray[np.int64], o: Place) -> None:
    """Take the oldest hit out of its list; the next one is behind it."""
    at = kind * o.banks + b
    i = _take(at, q, kind, m, o)
    m[o.hit + at] = NONE
    for k in range(i, o.lists + at * o.queue + m[o.length + at]):
        if _row(requests[m[k]]) == m[o.opened + b]:
            m[o.hit + at] = m[k]
            return


@jit
def _earliest(kind: int, blocked: int, m: NDArray[np.int64], o: Place) -> int:
    """The first clock at which a candidate is ready, _FAR for none. `blocked`: no queue goes.

    Loops without branches and with unsigned indices, so that they are vectorised; so are the three that
    follow.
    """
    n, held, late, opened = (
        np.uint64(o.banks),
        np.uint64(o.active),
        np.uint64(o.active_write),
        np.uint64(o.opened),
    )
    read, write = np.uint64(o.ready), np.uint64(o.ready + _WR * o.banks)
    act, pre = np.uint64(o.ready + _ACT * o.banks), np.uint64(o.ready + _PRE * o.banks)
    least = _FAR
    if m[_ACTIVE] > 0:
        for b in range(n):
            at = m[write + b] if m[late + b] == 1 else m[read + b]
            least = min(least, at if m[held + b] != NONE else _FAR)
    if blocked == 0:
        hit, other = np.uint64(o.hit + kind * o.banks), np.uint64(o.other + kind * o.banks)
        column = write if kind == 1 else read
        for b in range(n):
            close = m[pre + b] if m[held + b] == NONE else _FAR
            row = m[act + b] if m[opened + b] < 0 else close
            least = min(least, m[column + b] if m[hit + b] != NONE else _FAR)
            least = min(least, row if m[other + b] != NONE else _FAR)
    return int(least)


@jit
def _ready_active(clock: int, m: NDArray[np.int64], o: Place) -> int:
    """The oldest request of the active buffer that is ready, NONE for none."""
    held, late = np.uint64(o.active), np.uint64(o.active_write)
    read, write = np.uint64(o.ready), np.uint64(o.ready + _WR * o.banks)
    oldest = NONE
    for b in range(np.uint64(o.banks)):
        at = m[write + b] if m[late + b] == 1 else m[read + b]
        oldest = min(oldest, m[held + b] if at <= clock else NONE)
    return int(oldest)


@jit
def _ready_hit(clock: int, kind: int, m: NDArray[np.int64], o: Place) -> int:
    """The oldest waiting request whose row is open and that is ready, NONE for none."""
    column = np.uint64(o.ready + (_WR if kind == 1 else _RD) * o.banks)
    hit = np.uint64(o.hit + kind * o.banks)
    oldest = NONE
    for b in range(np.uint64(o.banks)):
        oldest = min(oldest, m[hit + b] if m[column + b] <= clock else NONE)
    return int(oldest)


@jit
def _ready_other(clock: int, kind: int, m: NDArray[np.int64], o: Place) -> int:
    """The oldest waiting request that needs an ACT or a PREpb and is ready for it, NONE for none."""
    act, pre = np.uint64(o.ready + _ACT * o.banks), np.uint64(o.ready + _PRE * o.banks)
    opened, held, other = np.uint64(o.opened), np.uint64(o.active), np.uint64(o.other + kind * o.banks)
    oldest = NONE
    for b in range(np.uint64(o.banks)):
        close = m[pre + b] if m[held + b] == NONE else _FAR
        row = m[act + b] if m[opened + b] < 0 else close
        oldest = min(oldest, m[other + b] if row <= clock else NONE)
    return int(oldest)


@jit
def _accept(q: int, clock: int, requests: NDArray[np.int64], m: NDArray[np.int64], o: Place) -> int:
    """Put a request into its list; the clock at which it makes a new candidate ready, _FAR for none."""
    kind, bank = requests[q] & 1, _bank(requests[q])
    at = kind * o.banks + bank
    m[o.lists + at * o.queue + m[o.length + at]] = q
    m[o.length + at] += 1
    m[kind] += 1
    opened = m[o.opened + bank]
    if _row(requests[q]) == opened:
        if m[o.hit + at] != NONE:
            return _FAR
        m[o.hit + at] = q
        c = _WR if kind == 1 else _RD
    else:
        if m[o.other + at] != NONE:
            return _FAR
        m[o.other + at] = q
        c = _ACT if opened < 0 else _PRE
        if c == _PRE and m[o.active + bank] != NONE:
            return _FAR
    return int(max(clock, m[o.ready + c * o.banks + bank]))


@jit
def _refresh_next(per_bank: int, turn: int, m: NDArray[np.int64], o: Place) -> tuple[int, int, int]:
    """(command, address, clock) that the refresh whose turn it is needs next; _FAR while an active request
    would lose its row."""
    if per_bank == 1:
        if m[o.opened + turn] < 0:
            return _REFPB, turn, int(m[o.ready + _REFPB * o.banks + turn])
        clock = _FAR if m[o.active + turn] != NONE else m[o.ready + _PRE * o.banks + turn]
        return _PRE, turn, int(clock)
    anything_open = False
    for b in range(o.banks):
        anything_open = anything_open or m[o.opened + b] >= 0
    whole = o.ready + BANK_COMMANDS * o.banks
    if not anything_open:
        return _REFAB, o.banks, int(m[whole + 1])
    return _PREAB, o.banks, int(m[whole] if m[_ACTIVE] == 0 else _FAR)


@jit
def _mode(writing: int, m: NDArray[np.int64], o: Place) -> int:
    """Serve writes from above the high watermark, or while no read waits, down to the low one."""
    if writing == 0:
        return 1 if m[_WRITES] > _HIGH * o.queue or m[_READS] == 0 else 0
    return 0 if m[_WRITES] < _LOW * o.queue and m[_READS] != 0 else 1


@jit
def _queued_write(
    q: int, key: NDArray[np.int64], requests: NDArray[np.int64], m: NDArray[np.int64], o: Place
) -> bool:
    """Is a write to the burst of request `q` still waiting?"""
    if len(key) == 0:
        return False
    at = o.banks + _bank(requests[q])
    for i in range(o.lists + at * o.queue, o.lists + at * o.queue + m[o.length + at]):
        if key[m[i]] == key[q]:
            return True
    return False


@jit
def _select(
    clock: int,
    kind: int,
    blocked: int,
    wanted: tuple[int, int, int],
    requests: NDArray[np.int64],
    m: NDArray[np.int64],
    o: Place,
) -> tuple[int, int]:
    """Take what goes at `clock` out of its place: (command, address)."""
    if m[_ACTIVE] > 0:
        q = _ready_active(clock, m, o)
        if q != NONE:
            m[o.active + _bank(requests[q])] = NONE
            m[_ACTIVE] -= 1
            return (_WR if requests[q] & 1 else _RD), _bank(requests[q])
    if blocked == 1:
        if wanted[0] == _PRE:
            _set_row(wanted[1], -1, requests, m, o)
        elif wanted[0] == _PREAB:
            for i in range(o.banks):
                _set_row(i, -1, requests, m, o)
        return wanted[0], wanted[1]
    h, q = _ready_hit(clock, kind, m, o), _ready_other(clock, kind, m, o)
    if h < q:
        b = _bank(requests[h])
        _take_hit(b, h, kind, requests, m, o)
        return (_WR if kind == 1 else _RD), b
    b = _bank(requests[q])
    if m[o.opened + b] >= 0:
        _set_row(b, -1, requests, m, o)
        return _PRE, b
    _take(kind * o.banks + b, q, kind, m, o)
    m[o.active + b], m[o.active_write + b] = q, kind
    m[_ACTIVE] += 1
    _set_row(b, _row(requests[q]), requests, m, o)
    return _ACT, b


@jit
def _record(c: int, at: int, clock: int, used: int, log: NDArray[np.int64]) -> NDArray[np.int64]:
    """Write one line of the log, of a longer log where it is full."""
    if used == log.shape[0]:
        more = np.zeros((2 * used, 3), np.int64)
        for i in range(used):
            for k in range(3):
                more[i, k] = log[i, k]
        log = more
    log[used, 0], log[used, 1], log[used, 2] = clock, c, at
    return log


@jit
def serve(  # noqa: C901, PLR0912  one loop over events, whose parts share a dozen numbers
    requests: NDArray[np.int64],
    key: NDArray[np.int64],
    m: NDArray[np.int64],
    o: Place,
    until: int,
    refresh: tuple[int, int, int],
    keep_log: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Serve all requests or until `until` column commands.

    `key`: burst addresses, empty where no write is merged. `refresh`: cycles between refreshes (0: none),
    intervals of postponement, 1 for one bank at a time. Returns the log [issues, 3] (clock, command,
    address), issues per command, and [clock of the first RD, of the last column command].
    """
    interval, postpone, per_bank = refresh
    issues = np.zeros(len(COMMANDS), np.int64)
    ends = np.array([-1, -1])
    log = np.zeros((1024 if keep_log == 1 else 1, 3), np.int64)
    total, mixed = len(requests), False
    for q in range(total):
        mixed = mixed or requests[q] & 1 == 1
    clock, arrived, done, used, owed, turn, writing = 0, 0, 0, 0, 0, 0, 0
    due = interval if interval > 0 else _FAR
    while done < until and (arrived < total or m[_READS] + m[_WRITES] + m[_ACTIVE] > 0):
        now = clock + 1
        if arrived < total:  # one request per cycle
            if mixed and _queued_write(arrived, key, requests, m, o):
                arrived += 1
                done += 1
            elif m[requests[arrived] & 1] < o.queue:
                _accept(arrived, now, requests, m, o)
                arrived += 1
        if due <= now:
            owed += 1
            due += interval
        forced = owed > postpone
        blocked = 1 if forced or (owed > 0 and m[_READS] + m[_WRITES] + m[_ACTIVE] == 0) else 0
        if mixed and blocked == 0 and _ready_active(now, m, o) == NONE:
            writing = _mode(writing, m, o)
        at = _earliest(writing, blocked, m, o)
        wanted = (-1, -1, _FAR)
        if blocked == 1:
            wanted = _refresh_next(per_bank, turn, m, o)
            at = min(at, wanted[2])
        if at > now:  # nothing can go yet
            if mixed or (blocked == 1 and not forced):
                clock = min(at, due, now + 1 if arrived < total else _FAR) - 1
                continue
            # The requests that arrive until something can go may go earlier.
            while at > now and now + 1 < due and arrived < total and m[_READS] < o.queue:
                now += 1
                ready = _accept(arrived, now, requests, m, o)
                at = min(at, ready if blocked == 0 else _FAR)
                arrived += 1
            if at >= due:
                clock = due - 1
                continue
            now = max(now, at)
        c, where = _select(now, writing, blocked, wanted, requests, m, o)
        clock = now
        _push(c, where, clock, m, o)
        issues[c] += 1
        if keep_log == 1:
            log = _record(c, where, clock, used, log)
            used += 1
        if c == _RD or c == _WR:  # noqa: PLR1714, SIM109  (a membership test does not compile)
            done += 1
            ends[1] = clock
            if c == _RD and ends[0] < 0:
                ends[0] = clock
        elif c == _REFPB or c == _REFAB:  # noqa: PLR1714, SIM109
            owed -= 1
            turn = (turn + 1) % o.banks
    return log[:used], issues, ends
