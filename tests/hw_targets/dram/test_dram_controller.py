"""The event-skipping FR-FCFS controller equals a plain cycle-by-cycle one, and its logs are legal."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from dram_legality import Logged, read_rules, violations
from hypothesis import given, settings
from hypothesis import strategies as st

from tetrasim.errors import UserError
from tetrasim.hw_targets.common.dram.controller import Served, serve_requests
from tetrasim.hw_targets.common.dram.refresh import NO_REFRESH, Refresh, RefreshMode, refresh_of
from tetrasim.hw_targets.common.dram.yaml_device import find_device, find_tables

ISSUED = tuple[int, str, int]  # clock, command, bank (-1: all)


@dataclass(frozen=True)
class Request:
    bank: int
    row: int
    write: bool
    column: int


@dataclass
class Plain:
    """One clock at a time; readiness by looking every rule of the device file up in the whole history."""

    device: str
    requests: list[Request]
    refresh: Refresh
    queue: int = 32
    log: list[ISSUED] = field(default_factory=list)
    past: dict[tuple[tuple[int, ...], str], list[int]] = field(default_factory=dict)
    opened: dict[int, int] = field(default_factory=dict)
    waiting: dict[bool, list[int]] = field(default_factory=lambda: {False: [], True: []})
    active: list[int] = field(default_factory=list)
    writing: bool = False
    clock: int = 0

    def __post_init__(self) -> None:
        self.rules = read_rules(self.device)
        self.counts = [level.count for level in find_device(self.device).levels]
        self.counts[0] = 1
        self.banks = int(np.prod(self.counts))

    def address(self, bank: int) -> tuple[int, ...]:
        """Position below every level; of all-bank commands as far as levels have one instance."""
        if bank < 0:
            return tuple(0 for _ in range(sum(1 for c in self.counts if c == 1)))
        out: list[int] = []
        for count in reversed(self.counts):
            out.insert(0, bank % count)
            bank //= count
        return tuple(out)

    def ready(self, command: str, bank: int) -> bool:
        at = self.address(bank)
        for level, before, after, gap, window in self.rules.table:
            if command in after and len(at) > level:
                for name in before:
                    seen = self.past.get((at[: level + 1], name), [])
                    least = gap + self.rules.cycles[name] - self.rules.cycles[command]
                    if len(seen) >= window and self.clock < seen[-window] + least:
                        return False
        return True

    def issue(self, command: str, bank: int) -> None:
        at = self.address(bank)
        for level in range(len(at)):
            self.past.setdefault((at[: level + 1], command), []).append(self.clock)
        self.log.append((self.clock, command, bank))

    def wanted(self, q: int) -> str:
        r = self.requests[q]
        if r.bank not in self.opened:
            return "ACT"
        return "PREpb" if self.opened[r.bank] != r.row else ("WR" if r.write else "RD")

    def closes_active(self, command: str, bank: int) -> bool:
        held = [self.requests[a].bank for a in self.active]
        return (command == "PREpb" and bank in held) or (command == "PREab" and bool(held))

    def first_ready(self, queue: list[int]) -> int | None:
        for q in sorted(queue):
            command, bank = self.wanted(q), self.requests[q].bank
            if q not in self.active and self.closes_active(command, bank):
                continue
            if self.ready(command, bank):
                return q
        return None

    def accept(self, q: int) -> str:
        """'queued', 'answered' (forwarded or merged) or 'full'."""
        r = self.requests[q]
        same = [self.requests[o] for o in self.waiting[True]]
        if any((o.bank, o.row, o.column) == (r.bank, r.row, r.column) for o in same):
            return "answered"
        if len(self.waiting[r.write]) == self.queue:
            return "full"
        self.waiting[r.write].append(q)
        return "queued"

    def choose_mode(self) -> None:
        reads, writes = len(self.waiting[False]), len(self.waiting[True])
        if not self.writing:
            self.writing = writes > 0.8 * self.queue or reads == 0
        else:
            self.writing = not (writes < 0.2 * self.queue and reads > 0)

    def refresh_step(self, turn: int) -> bool:
        """Issue what the pending refresh needs if it may go; True when it is done."""
        if self.refresh.mode is RefreshMode.PER_BANK:
            command, bank = ("PREpb" if turn in self.opened else "REFpb"), turn
        else:
            command, bank = ("PREab" if self.opened else "REFab"), -1
        if not self.ready(command, bank) or self.closes_active(command, bank):
            return False
        self.issue(command, bank)
        if command == "PREab":
            self.opened.clear()
        elif command == "PREpb":
            del self.opened[bank]
        return command.startswith("REF")

    def serve(self, q: int) -> bool:
        """Issue the next command of a request; True when it was its column command."""
        r, command = self.requests[q], self.wanted(q)
        self.issue(command, r.bank)
        if command == "ACT":
            self.opened[r.bank] = r.row
            self.waiting[r.write].remove(q)
            self.active.append(q)
        elif command == "PREpb":
            del self.opened[r.bank]
        else:
            (self.active if q in self.active else self.waiting[r.write]).remove(q)
        return command in ("RD", "WR")

    def run(self) -> list[ISSUED]:
        arrived = done = owed = turn = 0
        while done < len(self.requests):
            self.clock += 1
            if arrived < len(self.requests):
                kind = self.accept(arrived)
                arrived += kind != "full"
                done += kind == "answered"
            if self.refresh.interval and self.clock % self.refresh.interval == 0:
                owed += 1
            idle = not (self.active or self.waiting[False] or self.waiting[True])
            q = self.first_ready(self.active)
            if q is not None:
                done += self.serve(q)
            elif owed > self.refresh.postpone or (owed and idle):
                if self.refresh_step(turn):
                    owed -= 1
                    turn = (turn + 1) % self.banks
            else:
                self.choose_mode()
                q = self.first_ready(self.waiting[self.writing])
                if q is not None:
                    done += self.serve(q)
        return self.log


def run_engine(drawn: list[Request], device: str, refresh: Refresh, queue: int = 32) -> Served:
    return serve_requests(
        np.array([r.bank for r in drawn]),
        np.array([r.row for r in drawn]),
        np.array([r.write for r in drawn]),
        find_tables(device),
        until=len(drawn),
        column=np.array([r.column for r in drawn]),
        refresh=refresh,
        queue=queue,
    )


def lines(served: Served) -> list[ISSUED]:
    return [
        (int(clock), served.names[c], int(b))
        for clock, c, b in zip(served.clock, served.command, served.bank, strict=True)
    ]


def streams(banks: int, rows: int, write: st.SearchStrategy[bool]) -> st.SearchStrategy[list[Request]]:
    one = st.builds(Request, st.integers(0, banks - 1), st.integers(0, rows - 1), write, st.integers(0, 3))
    return st.lists(one, min_size=1, max_size=90)


SCHEMES = [NO_REFRESH, Refresh(RefreshMode.ALL_BANK, 400), Refresh(RefreshMode.ALL_BANK, 300, 2)]
PER_BANK = [Refresh(RefreshMode.PER_BANK, 150), Refresh(RefreshMode.PER_BANK, 90, 3)]


@settings(max_examples=40, deadline=None)
@given(
    drawn=st.one_of(
        streams(16, 3, st.just(False)), streams(16, 2, st.booleans()), streams(4, 2, st.booleans())
    ),
    refresh=st.sampled_from(SCHEMES + PER_BANK),
    device=st.sampled_from(["gddr6", "hbm2"]),
    queue=st.sampled_from([32, 5]),
)
def test_equals_cycle_by_cycle(drawn: list[Request], refresh: Refresh, device: str, queue: int) -> None:
    got = run_engine(drawn, device, refresh, queue)
    assert lines(got) == Plain(device, drawn, refresh, queue).run()
    found = np.bincount(got.command, minlength=len(got.names))
    assert (found == got.issues).all()


@pytest.mark.parametrize("device", ["ddr4", "ddr5", "lpddr5", "hbm3"])
@settings(max_examples=4, deadline=None)
@given(drawn=streams(16, 2, st.booleans()))
def test_equals_cycle_by_cycle_on_every_standard(device: str, drawn: list[Request]) -> None:
    refresh = Refresh(RefreshMode.ALL_BANK, 900)
    assert lines(run_engine(drawn, device, refresh)) == Plain(device, drawn, refresh).run()


def test_a_precharge_held_back_lets_younger_requests_pass() -> None:
    """Bank 0 opens row 0 for request 0; request 1 wants row 1 there, but must wait; request 2 goes first."""
    drawn = [Request(0, 0, False, 0), Request(0, 1, False, 0), Request(4, 0, False, 0)]
    got = lines(run_engine(drawn, "gddr6", NO_REFRESH))
    assert got[:4] == [(1, "ACT", 0), (12, "ACT", 4), (31, "RD", 0), (42, "RD", 4)]


@settings(max_examples=10, deadline=None)
@given(drawn=streams(16, 2, st.booleans()), refresh=st.sampled_from(SCHEMES + PER_BANK))
def test_logs_are_legal(drawn: list[Request], refresh: Refresh) -> None:
    plain = Plain("gddr6", drawn, refresh)
    log = [Logged(c, n, plain.address(b)) for c, n, b in lines(run_engine(drawn, "gddr6", refresh))]
    assert violations(log, read_rules("gddr6")) == []


def test_refresh_of_a_device() -> None:
    gddr6 = find_device("gddr6")
    assert refresh_of(gddr6, "all_bank") == Refresh(RefreshMode.ALL_BANK, 3333)
    assert refresh_of(gddr6, "per_bank", 8).interval == gddr6.timing["nREFIpb"]
    assert refresh_of(gddr6, "none") == NO_REFRESH
    with pytest.raises(UserError, match="cannot be postponed by 9"):
        refresh_of(gddr6, "all_bank", 9)
    with pytest.raises(UserError, match="has no REFpb"):
        refresh_of(find_device("ddr4"), "per_bank")
    with pytest.raises(UserError) as caught:
        refresh_of(gddr6, "per-bank")
    assert "per_bank" in caught.value.hint
