"""AiM programs and HBM-PIM GEMVs equal plain one-clock-at-a-time models of their rules."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tetrasim.errors import UserError
from tetrasim.hw_targets.common.dram.cases import Case
from tetrasim.hw_targets.common.dram.hbm_pim import gemv_transactions, run_gemv
from tetrasim.hw_targets.common.dram.program import encode
from tetrasim.hw_targets.common.dram.replay import aim_channel, aim_instructions, host_cycles, run_case

AIM = {
    "nBL": 2, "nCL": 50, "nRCDRDMAC": 56, "nRP": 32, "nRAS": 54, "nRC": 89, "nRTP": 12, "nCCDS": 2,
    "nCCDL": 2,
    "nRRDL": 6,
    "nWTRS": 9, "nWTRL": 11, "nMODCH": 32, "nCLREG": 0, "nCWLREG": 1, "nCWLGB": 1, "nWPRE": 1,
}  # fmt: skip
HBM = {
    "BL": 4, "RL": 20, "WL": 8, "tCCDS": 2, "tCCDL": 4, "tRCDRD": 14, "tRCDWR": 10, "tRAS": 33, "tRRDS": 4,
    "tRRDL": 6, "tRC": 47, "tRP": 14, "tRTPL": 5, "tWR": 16, "tWTRL": 9, "tREFI": 3900, "tRFC": 350,
    "tRTRS": 1,
}  # fmt: skip


def aim_gaps(t: dict[str, int]) -> dict[tuple[str, str], int]:
    """The all-bank rules of the A cases, written down by hand."""
    gaps: dict[tuple[str, str], int] = {
        ("ACT16", "ACT16"): max(t["nRC"], t["nRRDL"]),
        ("ACT16", "MAC16"): t["nRCDRDMAC"],
        ("ACT16", "PREA"): t["nRAS"],
        ("MAC16", "PREA"): t["nRTP"],
        ("PREA", "ACT16"): t["nRP"],
        ("WRGB", "RDMAC16"): t["nCWLGB"] + t["nBL"] + t["nWTRS"],
        ("WRMAC16", "RDMAC16"): t["nCWLREG"] + t["nBL"] + max(t["nWTRS"], t["nWTRL"]),
        ("RDMAC16", "WRGB"): t["nCLREG"] + t["nBL"] + 3 - t["nCWLGB"] + t["nWPRE"],
        ("RDMAC16", "WRMAC16"): t["nCLREG"] + t["nBL"] + 3 - t["nCWLREG"] + t["nWPRE"],
    }
    for a in ("MAC16", "RDMAC16"):
        for b in ("MAC16", "RDMAC16"):
            gaps[a, b] = t["nCCDL"]
    for a in ("WRGB", "WRMAC16"):
        for b in ("WRGB", "WRMAC16"):
            gaps[a, b] = max(t["nBL"], t["nCCDS"])
    for b in ("ACT16", "PREA", "MAC16", "WRGB", "WRMAC16", "RDMAC16", "TMOD"):
        gaps["TMOD", b] = t["nMODCH"]
    return gaps


def unrolled(program: list[object], row: int) -> list[tuple[str, int]]:
    """(command, row) of a program in the replay format."""
    out: list[tuple[str, int]] = []
    for entry in program:
        if isinstance(entry, dict):
            for i in range(entry["repeat"]):
                out += unrolled(entry["body"], row + i * entry["row_step"])
        else:
            assert isinstance(entry, list)
            name = {"WR_GB": "WRGB", "WR_BIAS": "WRMAC16", "MAC_ABK": "MAC16", "RD_MAC": "RDMAC16"}[entry[0]]
            out += [(name, row)] * (entry[1] if len(entry) > 1 else 1)
    return out


def plain_aim(program: list[object], t: dict[str, int]) -> tuple[list[tuple[int, str]], int]:
    """The log and the total, one clock at a time, rules looked up in the last issue of each command."""
    gaps, last = aim_gaps(t), dict[str, int]()
    log: list[tuple[int, str]] = []
    clock, register, opened, visible = 0, False, -1, 0
    arrived = 0  # when all data written so far is there
    for name, row in unrolled(program, 0):
        while True:
            clock += 1
            command = name
            if name == "MAC16" and opened != row:
                command = "PREA" if opened >= 0 else "ACT16"
            if clock < visible or any(clock < at + gaps.get((b, command), 0) for b, at in last.items()):
                continue
            if (name in ("WRGB", "WRMAC16", "RDMAC16")) != register:
                command, register = "TMOD", not register
            log.append((clock, command))
            last[command] = clock
            opened = {"PREA": -1, "ACT16": row}.get(command, opened)
            if command in ("WRGB", "WRMAC16"):
                arrived = max(arrived, clock + t["nBL"] + t["nCWLGB" if command == "WRGB" else "nCWLREG"])
            if command == name:
                break
        if name == "RDMAC16":
            visible = clock + t["nCLREG"] + t["nBL"] + 1
    reached = max(clock + 1, visible)  # EOC
    return log, max(reached + 1, arrived + 1)


leaves = st.one_of(
    st.builds(lambda n: ["WR_GB", n], st.integers(1, 9)),
    st.just(["WR_BIAS"]),
    st.builds(lambda n: ["MAC_ABK", n, "row"], st.integers(1, 9)),
    st.just(["RD_MAC"]),
)
programs: st.SearchStrategy[list[object]] = st.recursive(
    st.lists(leaves, min_size=1, max_size=4),
    lambda inner: st.lists(
        st.builds(
            lambda n, step, body: {"repeat": n, "row_step": step, "body": body},
            st.integers(1, 4),
            st.integers(0, 2),
            inner,
        ),
        min_size=1,
        max_size=3,
    ),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(
    program=programs,
    changed=st.fixed_dictionaries(
        {"nRCDRDMAC": st.integers(20, 60), "nCCDL": st.integers(1, 6), "nMODCH": st.integers(1, 40)}
    ),
)
def test_aim_program_equals_plain_model(program: list[object], changed: dict[str, int]) -> None:
    timing = {**AIM, **changed, "nCCDAB": 0}
    log, total = plain_aim(program, timing)
    fields = {"program": [*program, ["EOC"]], "timing_cycles": timing}
    outcome = run_case(Case("A", "A", {**fields, "expected": {"memory_system_cycles": total}}, {}))
    assert outcome.match, outcome.reason
    channel = aim_channel(timing, exact_slow=True)
    running = channel.start(log_size=len(log) + 8)
    running.run(encode(aim_instructions(program, "A", host_cycles(timing)), channel.index))
    assert running.log == log


@dataclass
class Bank:
    row: int | None = None
    idle_at: int = 0
    read: int = 0
    write: int = 0
    act: int = 0
    pre: int = 0


@dataclass
class PlainHbmPim:
    """The controller of the S cases, one clock at a time, with the queue as a list."""

    todo: list[tuple[int, int, int, int]]
    t: dict[str, int]
    queue: list[tuple[int, int, int, int]] = field(default_factory=list)
    banks: list[Bank] = field(default_factory=lambda: [Bank() for _ in range(16)])
    log: list[tuple[int, str, int, int]] = field(default_factory=list)
    single: bool = True
    seen: set[int] = field(default_factory=set)
    pending: bool = False
    pointer: int = 0
    clock: int = 0
    end: int = 0

    def issue(self, command: str, b: int, row: int) -> None:
        t, now, half = self.t, self.clock, self.t["BL"] // 2
        self.log.append((now, command, b, row))
        bank = self.banks[b]
        if command == "ACT":
            bank.row = row
            bank.pre = max(bank.pre, now + t["tRAS"])
            bank.read, bank.write = max(bank.read, now + t["tRCDRD"]), max(bank.write, now + t["tRCDWR"])
            for i, other in enumerate(self.banks):
                gap = t["tRC"] if i == b else t["tRRDL"] if i // 4 == b // 4 else t["tRRDS"]
                other.act = max(other.act, now + gap)
        elif command == "PRE":
            bank.row, bank.idle_at = None, now + t["tRP"]
            bank.act = max(bank.act, now + t["tRP"])
        elif command == "REF":
            for other in self.banks:
                other.row, other.idle_at, other.act = None, now + t["tRFC"], now + t["tRFC"]
        else:
            write = command == "WR"
            close = t["WL"] + half + t["tWR"] if write else half + max(t["tRTPL"], t["tCCDL"]) - t["tCCDL"]
            bank.pre = max(bank.pre, now + close)
            turn = t["WL"] + half + t["tWTRL"] if write else t["RL"] + half + t["tRTRS"] - t["WL"]
            for i, other in enumerate(self.banks):
                gap = max(t["tCCDL"] if i // 4 == b // 4 else t["tCCDS"], half)
                other.read = max(other.read, now + (turn if write else gap))
                other.write = max(other.write, now + (gap if write else turn))
            self.end = max(self.end, now + (1 + t["WL"] if write else 2 + t["RL"]) + half)
        target = ("ACT", 0x17FF, {0, 1, 8, 9}) if self.single else ("PRE", 0x1FFF, {0, 1})
        if (command, row) == target[:2]:
            self.seen.add(b)
            if self.seen == target[2]:
                self.single, self.seen = not self.single, set()

    def try_refresh(self) -> bool:
        opened = [i for i, b in enumerate(self.banks) if b.row is not None]
        for i in opened:
            if self.clock >= self.banks[i].pre:
                self.issue("PRE", i, self.banks[i].row or 0)
                return True
        if not opened:
            self.issue("REF", 0, 0)
            self.pending = False
        return not opened

    def try_column(self) -> bool:
        for i, (write, b, row, _) in enumerate(self.queue):
            if any(bar for *_, bar in self.queue[: i + 1]) and i > 0:
                return False
            bank = self.banks[b]
            if bank.row == row and self.clock >= (bank.write if write else bank.read):
                del self.queue[i]
                self.issue("WR" if write else "RD", b, row)
                return True
        return False

    def try_activate(self) -> bool:
        for i, (_, b, row, bar) in enumerate(self.queue):
            if i and bar:
                return False
            bank = self.banks[b]
            idle = bank.row is None and self.clock >= bank.idle_at
            if idle and self.clock >= bank.act and (self.single or b < 2):
                self.issue("ACT", b, row)
                return True
        return False

    def try_close(self) -> bool:
        bars = [i for i, (*_, bar) in enumerate(self.queue) if bar]
        seen = self.queue[: bars[0] + 1] if bars else self.queue
        wanted = {(b, row) for _, b, row, _ in seen}
        for k in range(16):
            i = (self.pointer + k) % 16
            bank = self.banks[i]
            if bank.row is not None and (i, bank.row) not in wanted and self.clock >= bank.pre:
                self.issue("PRE", i, bank.row)
                self.pointer = i
                return True
        return False

    def run(self) -> int:
        dues = {self.t["tREFI"] // 2 + k * self.t["tREFI"] for k in range(1000)}
        others = {2 * (self.t["tREFI"] // 2) + k * self.t["tREFI"] for k in range(1000)}
        while self.todo or self.queue or self.clock < self.end:
            self.pending = self.pending or self.clock in dues
            if self.clock not in others:
                _ = (
                    (self.pending and self.try_refresh())
                    or self.try_column()
                    or self.try_activate()
                    or self.try_close()
                )
            if self.todo and len(self.queue) < 64:
                self.queue.append(self.todo.pop(0))
            self.clock += 1
        return self.end


@pytest.mark.parametrize(
    ("outputs", "inputs", "changed"),
    [
        (64, 128, {}),
        (128, 384, {}),
        (200, 512, {}),
        (64, 1024, {"tREFI": 901}),
        (128, 640, {"tREFI": 777, "tRFC": 120}),
        (320, 256, {"tRP": 20, "tRAS": 50, "tRC": 70, "tCCDL": 5, "tREFI": 1300}),
        (64, 300, {"tRCDRD": 20, "tWTRL": 15, "RL": 25, "tREFI": 611, "tRFC": 100}),
    ],
)
def test_hbm_pim_equals_plain_model(outputs: int, inputs: int, changed: dict[str, int]) -> None:
    timing = {**HBM, **changed}
    plain = PlainHbmPim(list(gemv_transactions(outputs, inputs)), timing)
    end = plain.run()
    got = run_gemv(outputs, inputs, timing)
    assert [(i.clock, i.command, i.bank, i.row) for i in got.lines()] == plain.log
    assert got.cycles == end


def test_hbm_pim_rows_of_later_tiles() -> None:
    """Tile after tile reads rows behind those before, and results lie behind all weights."""
    reads = [b for b in gemv_transactions(128, 1024) if not b[0] and b[2] < 0x1000]
    assert [reads[i][1:3] for i in (0, 64, 255, 256, 511, 512, 1023)] == [
        (0, 0), (0, 2), (0, 7), (1, 0), (1, 7), (0, 8), (1, 15),
    ]  # fmt: skip
    results = [b[2] for b in gemv_transactions(128, 1024) if b[0] and b[2] < 0x1000]
    assert results == [16] * 16


def test_hbm_pim_mistakes() -> None:
    with pytest.raises(UserError, match="'tRFC' is missing"):
        run_gemv(64, 64, {k: v for k, v in HBM.items() if k != "tRFC"})
    with pytest.raises(UserError, match="a GEMV of 0 x 4"):
        run_gemv(0, 4, HBM)
