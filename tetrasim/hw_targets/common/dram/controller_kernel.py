"""The kernel of the FR-FCFS controller: event-skipping, over per-bank heads.

All requests of a bank that hit its open row become ready together, and so do all that do not; so the oldest
of each kind stands for all, and a choice looks at three candidates per bank (with the one in the active
buffer) instead of the whole queue. `ready[command, bank]` holds, all levels included, the first clock at
which a command may issue there; an issue raises it by one row of a table over pairs of addresses.

Tables and state lie in one int64 array `m`, which begins with sizes and places (a compiled function that is
handed many arguments spends more time on them than a command takes). A request is one number, `pack`ed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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
_READS, _WRITES, _ACTIVE = 0, 1, 2  # requests waiting, by kind, and in the active buffer
# Sizes: B banks, entries Q of a queue, bank-level commands that may occur (the first so many of COMMANDS), W
# rules that look back several issues, levels, nodes, and how far they look back.
BANKS, QUEUE, LIVE, WINDOWS, LEVELS, NODES, DEPTH = 9, 10, 11, 12, 13, 14, 15
# Places. An address is a bank, or B for the channel; lists come twice, B for reads and B for writes.
READY_AT = 16  # [BANK_COMMANDS, B], then PREab and REFab of the channel
OPENED_AT = 17  # [B] row, -1 closed
ACTIVE_AT, ACTIVE_WRITE_AT = 18, 19  # [B] request, NONE; 1: that is a write
HIT_AT, OTHER_AT = 20, 21  # [2 * B] oldest waiting request of the open row, and of another row
LENGTH_AT, LISTS_AT = 22, 23  # [2 * B], [2 * B, Q] waiting requests in order of arrival
HISTORY_AT = 24  # [W, nodes, depth]
PUSH_AT = 25  # [commands, B + 1, BANK_COMMANDS * B + 2] gap from a command at an address to every other
WINDOW_AT = 26  # [W, 5] level, before, after, window, gap
PATH_AT = 27  # [B + 1, levels] node, -1 below the address
STATE_SIZE = 28
_ROW_SHIFT, MAX_BANKS = 11, 1024


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
def _push_windows(c: int, at: int, clock: int, m: NDArray[np.int64]) -> None:
    """Rules that look back several issues of `c`."""
    for r in range(m[WINDOWS]):
        rule = m[WINDOW_AT] + 5 * r
        if m[rule + 1] != c:
            continue
        n = m[m[PATH_AT] + at * m[LEVELS] + m[rule]]
        if n < 0:
            continue
        past = m[HISTORY_AT] + (r * m[NODES] + n) * m[DEPTH]
        last = m[rule + 3] - 1
        for k in range(last, 0, -1):
            m[past + k] = m[past + k - 1]
        m[past] = clock
        least = m[past + last] + m[rule + 4]
        after = m[rule + 2]
        if after >= BANK_COMMANDS:
            if m[m[PATH_AT] + m[BANKS] * m[LEVELS] + m[rule]] == n:
                i = m[READY_AT] + BANK_COMMANDS * m[BANKS] + after - BANK_COMMANDS
                m[i] = max(m[i], least)
            continue
        for b in range(m[BANKS]):
            if m[m[PATH_AT] + b * m[LEVELS] + m[rule]] == n:
                i = m[READY_AT] + after * m[BANKS] + b
                m[i] = max(m[i], least)


@jit
def _push(c: int, at: int, clock: int, m: NDArray[np.int64]) -> None:
    """`c` issues at address `at`: raise what it holds back."""
    width = BANK_COMMANDS * m[BANKS] + 2
    gaps = m[PUSH_AT] + (c * (m[BANKS] + 1) + at) * width
    ready, gap = np.uint64(m[READY_AT]), np.uint64(gaps)
    for i in range(np.uint64(m[LIVE] * m[BANKS])):
        m[ready + i] = max(m[ready + i], clock + m[gap + i])
    for k in range(width - 2, width):
        m[m[READY_AT] + k] = max(m[m[READY_AT] + k], clock + m[gaps + k])
    if c != _RD:
        _push_windows(c, at, clock, m)


@jit
def _heads(at: int, opened: int, requests: NDArray[np.int64], m: NDArray[np.int64]) -> None:
    """Find the oldest hit and the oldest other request of a list again."""
    hit, other = NONE, NONE
    first = m[LISTS_AT] + at * m[QUEUE]
    for i in range(first, first + m[m[LENGTH_AT] + at]):
        if _row(requests[m[i]]) == opened:
            if hit == NONE:
                hit = m[i]
                if other != NONE:
                    break
        elif other == NONE:
            other = m[i]
            if hit != NONE:
                break
    m[m[HIT_AT] + at], m[m[OTHER_AT] + at] = hit, other


@jit
def _set_row(b: int, row: int, requests: NDArray[np.int64], m: NDArray[np.int64]) -> None:
    """Bank `b` has `row` open from now on (-1: closed)."""
    m[m[OPENED_AT] + b] = row
    _heads(b, row, requests, m)
    at = m[BANKS] + b
    if m[m[HIT_AT] + at] != NONE or m[m[OTHER_AT] + at] != NONE:
        _heads(at, row, requests, m)


@jit
def _take(at: int, q: int, kind: int, m: NDArray[np.int64]) -> int:
    """Take a request out of its list; the others keep their order. Its former place."""
    end = m[LISTS_AT] + at * m[QUEUE] + m[m[LENGTH_AT] + at] - 1
    i = m[LISTS_AT] + at * m[QUEUE]
    while m[i] != q:
        i += 1
    for k in range(i, end):
        m[k] = m[k + 1]
    m[m[LENGTH_AT] + at] -= 1
    m[kind] -= 1
    return int(i)


@jit
def _take_hit(b: int, q: int, kind: int, requests: NDArray[np.int64], m: NDArray[np.int64]) -> None:
    """Take the oldest hit out of its list; the next one is behind it."""
    at = kind * m[BANKS] + b
    i = _take(at, q, kind, m)
    m[m[HIT_AT] + at] = NONE
    for k in range(i, m[LISTS_AT] + at * m[QUEUE] + m[m[LENGTH_AT] + at]):
        if _row(requests[m[k]]) == m[m[OPENED_AT] + b]:
            m[m[HIT_AT] + at] = m[k]
            return


@jit
def _earliest(kind: int, blocked: int, m: NDArray[np.int64]) -> int:
    """The first clock at which a candidate is ready, _FAR for none. `blocked`: no queue goes.

    Loops without branches and with unsigned indices, so that they are vectorised; so are the three that
    follow.
    """
    n, held, late, opened = (
        np.uint64(m[BANKS]),
        np.uint64(m[ACTIVE_AT]),
        np.uint64(m[ACTIVE_WRITE_AT]),
        np.uint64(m[OPENED_AT]),
    )
    read, write = np.uint64(m[READY_AT]), np.uint64(m[READY_AT] + _WR * m[BANKS])
    act, pre = np.uint64(m[READY_AT] + _ACT * m[BANKS]), np.uint64(m[READY_AT] + _PRE * m[BANKS])
    least = _FAR
    if m[_ACTIVE] > 0:
        for b in range(n):
            at = m[write + b] if m[late + b] == 1 else m[read + b]
            least = min(least, at if m[held + b] != NONE else _FAR)
    if blocked == 0:
        hit, other = np.uint64(m[HIT_AT] + kind * m[BANKS]), np.uint64(m[OTHER_AT] + kind * m[BANKS])
        column = write if kind == 1 else read
        for b in range(n):
            close = m[pre + b] if m[held + b] == NONE else _FAR
            row = m[act + b] if m[opened + b] < 0 else close
            least = min(least, m[column + b] if m[hit + b] != NONE else _FAR)
            least = min(least, row if m[other + b] != NONE else _FAR)
    return int(least)


@jit
def _ready_active(clock: int, m: NDArray[np.int64]) -> int:
    """The oldest request of the active buffer that is ready, NONE for none."""
    held, late = np.uint64(m[ACTIVE_AT]), np.uint64(m[ACTIVE_WRITE_AT])
    read, write = np.uint64(m[READY_AT]), np.uint64(m[READY_AT] + _WR * m[BANKS])
    oldest = NONE
    for b in range(np.uint64(m[BANKS])):
        at = m[write + b] if m[late + b] == 1 else m[read + b]
        oldest = min(oldest, m[held + b] if at <= clock else NONE)
    return int(oldest)


@jit
def _ready_hit(clock: int, kind: int, m: NDArray[np.int64]) -> int:
    """The oldest waiting request whose row is open and that is ready, NONE for none."""
    column = np.uint64(m[READY_AT] + (_WR if kind == 1 else _RD) * m[BANKS])
    hit = np.uint64(m[HIT_AT] + kind * m[BANKS])
    oldest = NONE
    for b in range(np.uint64(m[BANKS])):
        oldest = min(oldest, m[hit + b] if m[column + b] <= clock else NONE)
    return int(oldest)


@jit
def _ready_other(clock: int, kind: int, m: NDArray[np.int64]) -> int:
    """The oldest waiting request that needs an ACT or a PREpb and is ready for it, NONE for none."""
    act, pre = np.uint64(m[READY_AT] + _ACT * m[BANKS]), np.uint64(m[READY_AT] + _PRE * m[BANKS])
    opened, held, other = (
        np.uint64(m[OPENED_AT]),
        np.uint64(m[ACTIVE_AT]),
        np.uint64(m[OTHER_AT] + kind * m[BANKS]),
    )
    oldest = NONE
    for b in range(np.uint64(m[BANKS])):
        close = m[pre + b] if m[held + b] == NONE else _FAR
        row = m[act + b] if m[opened + b] < 0 else close
        oldest = min(oldest, m[other + b] if row <= clock else NONE)
    return int(oldest)


@jit
def _accept(q: int, clock: int, requests: NDArray[np.int64], m: NDArray[np.int64]) -> int:
    """Put a request into its list; the clock at which it makes a new candidate ready, _FAR for none."""
    kind, bank = requests[q] & 1, _bank(requests[q])
    at = kind * m[BANKS] + bank
    m[m[LISTS_AT] + at * m[QUEUE] + m[m[LENGTH_AT] + at]] = q
    m[m[LENGTH_AT] + at] += 1
    m[kind] += 1
    opened = m[m[OPENED_AT] + bank]
    if _row(requests[q]) == opened:
        if m[m[HIT_AT] + at] != NONE:
            return _FAR
        m[m[HIT_AT] + at] = q
        c = _WR if kind == 1 else _RD
    else:
        if m[m[OTHER_AT] + at] != NONE:
            return _FAR
        m[m[OTHER_AT] + at] = q
        c = _ACT if opened < 0 else _PRE
        if c == _PRE and m[m[ACTIVE_AT] + bank] != NONE:
            return _FAR
    return int(max(clock, m[m[READY_AT] + c * m[BANKS] + bank]))


@jit
def _refresh_next(per_bank: int, turn: int, m: NDArray[np.int64]) -> tuple[int, int, int]:
    """(command, address, clock) that the refresh whose turn it is needs next; _FAR while an active request
    would lose its row."""
    if per_bank == 1:
        if m[m[OPENED_AT] + turn] < 0:
            return _REFPB, turn, int(m[m[READY_AT] + _REFPB * m[BANKS] + turn])
        clock = _FAR if m[m[ACTIVE_AT] + turn] != NONE else m[m[READY_AT] + _PRE * m[BANKS] + turn]
        return _PRE, turn, int(clock)
    anything_open = False
    for b in range(m[BANKS]):
        anything_open = anything_open or m[m[OPENED_AT] + b] >= 0
    whole = m[READY_AT] + BANK_COMMANDS * m[BANKS]
    if not anything_open:
        return _REFAB, m[BANKS], int(m[whole + 1])
    return _PREAB, m[BANKS], int(m[whole] if m[_ACTIVE] == 0 else _FAR)


@jit
def _mode(writing: int, m: NDArray[np.int64]) -> int:
    """Serve writes from above the high watermark, or while no read waits, down to the low one."""
    if writing == 0:
        return 1 if m[_WRITES] > _HIGH * m[QUEUE] or m[_READS] == 0 else 0
    return 0 if m[_WRITES] < _LOW * m[QUEUE] and m[_READS] != 0 else 1


@jit
def _queued_write(q: int, key: NDArray[np.int64], requests: NDArray[np.int64], m: NDArray[np.int64]) -> bool:
    """Is a write to the burst of request `q` still waiting?"""
    if len(key) == 0:
        return False
    at = m[BANKS] + _bank(requests[q])
    for i in range(m[LISTS_AT] + at * m[QUEUE], m[LISTS_AT] + at * m[QUEUE] + m[m[LENGTH_AT] + at]):
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
) -> tuple[int, int]:
    """Take what goes at `clock` out of its place: (command, address)."""
    if m[_ACTIVE] > 0:
        q = _ready_active(clock, m)
        if q != NONE:
            m[m[ACTIVE_AT] + _bank(requests[q])] = NONE
            m[_ACTIVE] -= 1
            return (_WR if requests[q] & 1 else _RD), _bank(requests[q])
    if blocked == 1:
        if wanted[0] == _PRE:
            _set_row(wanted[1], -1, requests, m)
        elif wanted[0] == _PREAB:
            for i in range(m[BANKS]):
                _set_row(i, -1, requests, m)
        return wanted[0], wanted[1]
    h, q = _ready_hit(clock, kind, m), _ready_other(clock, kind, m)
    if h < q:
        b = _bank(requests[h])
        _take_hit(b, h, kind, requests, m)
        return (_WR if kind == 1 else _RD), b
    b = _bank(requests[q])
    if m[m[OPENED_AT] + b] >= 0:
        _set_row(b, -1, requests, m)
        return _PRE, b
    _take(kind * m[BANKS] + b, q, kind, m)
    m[m[ACTIVE_AT] + b], m[m[ACTIVE_WRITE_AT] + b] = q, kind
    m[_ACTIVE] += 1
    _set_row(b, _row(requests[q]), requests, m)
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
def serve(  # noqa: C901  one loop over events, whose parts share a dozen numbers
    requests: NDArray[np.int64],
    key: NDArray[np.int64],
    m: NDArray[np.int64],
    until: int,
    refresh: tuple[int, int, int],
    keep_log: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Serve all requests or until `until` column commands: the log [issues, 3] (clock, command, address),
    issues per command, and [clock of the first RD, of the last column command]. `key`: burst addresses, empty
    where no write is merged. `refresh`: interval (0: none), intervals of postponement, 1 for single banks."""
    interval, postpone, per_bank = refresh
    issues, ends = np.zeros(len(COMMANDS), np.int64), np.array([-1, -1])
    log = np.zeros((1024 if keep_log == 1 else 1, 3), np.int64)
    total, mixed = len(requests), (requests & 1).any()
    clock, arrived, done, used, owed, turn, writing = 0, 0, 0, 0, 0, 0, 0
    due = interval if interval > 0 else _FAR
    while done < until and (arrived < total or m[_READS] + m[_WRITES] + m[_ACTIVE] > 0):
        now = clock + 1
        if arrived < total:  # one request per cycle
            if mixed and _queued_write(arrived, key, requests, m):
                arrived, done = arrived + 1, done + 1
            elif m[requests[arrived] & 1] < m[QUEUE]:
                _accept(arrived, now, requests, m)
                arrived += 1
        if due <= now:
            owed, due = owed + 1, due + interval
        forced = owed > postpone
        blocked = 1 if forced or (owed > 0 and m[_READS] + m[_WRITES] + m[_ACTIVE] == 0) else 0
        if mixed and blocked == 0 and _ready_active(now, m) == NONE:
            writing = _mode(writing, m)
        at = _earliest(writing, blocked, m)
        wanted = _refresh_next(per_bank, turn, m) if blocked == 1 else (-1, -1, _FAR)
        at = min(at, wanted[2])
        if at > now:  # nothing can go yet
            if mixed or (blocked == 1 and not forced):  # every arrival may change whose turn it is
                clock = min(at, due, now + 1 if arrived < total else _FAR) - 1
                continue
            # The requests that arrive until something can go may go earlier.
            while at > now and now + 1 < due and arrived < total and m[_READS] < m[QUEUE]:
                now, arrived = now + 1, arrived + 1
                ready = _accept(arrived - 1, now, requests, m)
                at = min(at, ready if blocked == 0 else _FAR)
            if at >= due:
                clock = due - 1
                continue
        clock = max(now, at)
        c, where = _select(clock, writing, blocked, wanted, requests, m)
        _push(c, where, clock, m)
        issues[c] += 1
        if keep_log == 1:
            log, used = _record(c, where, clock, used, log), used + 1
        if c == _RD or c == _WR:  # noqa: PLR1714, SIM109  (a membership test does not compile)
            done += 1
            ends[1] = clock
            ends[0] = clock if c == _RD and ends[0] < 0 else ends[0]
        elif c == _REFPB or c == _REFAB:  # noqa: PLR1714, SIM109
            owed, turn = owed - 1, (turn + 1) % m[BANKS]
    return log[:used], issues, ends
