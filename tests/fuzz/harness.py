"""One mutated input through the command line, in this process, and the judgement on what came of it."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import re
import signal
import tempfile
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import FrameType

import onnx

from tests.fuzz.kinds import KINDS, STUDY, Command
from tests.tiny_onnx import mlp
from tetrasim import cli

HANG_S = 10.0  # of processor time
# What commands write beside the inputs: -o, and the places that have a default.
_OUTPUTS = ("out", "out.csv")
_NUMBER = re.compile(r'"(?:latency_us|latency|value)": (-?[0-9.e+-]+|NaN|-?Infinity)')


class Hang(BaseException):
    """The processor time of one case is used up."""


@dataclass(frozen=True)
class Verdict:
    """`code` is the exit code, -1 when there was none; `faults` say what must not be, by name."""

    kind: str
    seed: str
    command: Command
    code: int
    faults: tuple[str, ...]
    said: str


def prepare(base: Path) -> None:
    """A good run, study and export, to be mutated; once per campaign."""
    base.mkdir(parents=True, exist_ok=True)
    onnx.save(mlp(rows=4), base / "m.onnx")
    (base / "s.yaml").write_text(json.dumps(STUDY), encoding="utf-8")
    with _inside(base):
        for command in (
            ["run", "m.onnx", "--on", "gpu/t4", "cpu/xeon-6154", "-o", "run", "-q"],
            ["export", "jet-btag", "-o", "export", "-q"],
            ["dse", "run", "s.yaml", "-o", "study", "--trials", "2", "-q"],
        ):
            code, said = _run(command)
            assert code == 0, said


def case(kind: str, seed: str, base: Path) -> Verdict:
    """Make the input of `seed`, run its command, judge."""
    with tempfile.TemporaryDirectory(prefix="tetrasim-fuzz-") as scratch:
        folder = Path(scratch)
        command = KINDS[kind](Random(f"{kind} {seed}"), folder, base)
        before = _listing(folder)
        with _inside(folder), _limit(HANG_S):
            try:
                code, said = _run(command)
            except Hang:
                return Verdict(kind, seed, command, -1, ("hang",), "".join(traceback.format_exc()[-1500:]))
            except BaseException:
                return Verdict(kind, seed, command, -1, ("traceback",), traceback.format_exc()[-1500:])
        faults = tuple(_faults(command, code, said, before, folder))
    return Verdict(kind, seed, command, code, faults, said[-1500:])


def _faults(command: Command, code: int, said: str, before: dict[str, bytes], folder: Path) -> Iterator[str]:
    if code not in (0, 2):
        yield "traceback" if code == 1 else f"exit {code}"
    if "Traceback" in said or "internal error" in said:
        yield "traceback"
    if any(c in said for c in "\x1b\x07\x9b"):
        yield "control characters"
    after = _listing(folder)
    fresh = {name for name in after if name not in before}
    named = {command[i + 1] for i, w in enumerate(command[:-1]) if w in ("-o", "--output", "--out")}
    allowed = (*_OUTPUTS, "runs", *named)
    inputs = (
        ("r", "p", "st", "ex") if command[:1] in (["hls"], ["dse"], ["compare"], ["diff"], ["whatif"]) else ()
    )
    for name in sorted(fresh):
        if any(part.startswith(".tetrasim-") for part in Path(name).parts):
            yield f"hidden file {name}"
        if not name.startswith((*(a for a in allowed if a), *inputs)):
            yield f"stray file {name}"
    if code == 2 and any(name.startswith("out") for name in fresh) and command[:2] != ["dse", "run"]:
        yield "partial output"
    if code == 0:
        yield from _nonsense(said, folder / "out" / "report.json")


def _nonsense(said: str, report: Path) -> Iterator[str]:
    """Numbers that no machine has: NaN, infinite or negative times and energies in data that was accepted."""
    texts = [said] + ([report.read_text(encoding="utf-8")] if report.is_file() else [])
    for text in texts:
        for found in _NUMBER.findall(text):
            number = float(found.replace("Infinity", "inf"))
            if not math.isfinite(number) or number < 0:
                yield f"nonsense accepted: {found}"
                return
    if report.is_file():
        for result in json.loads(report.read_text(encoding="utf-8"))["results"]:
            if not result["latency"]["value"] > 0:
                yield "nonsense accepted: no time at all"
                return


def _listing(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): b"" for p in folder.rglob("*")}


def _run(command: Command) -> tuple[int, str]:
    """Exit code, and everything that was printed."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        code = cli.main(command)
    return code, out.getvalue()


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextlib.contextmanager
def _limit(seconds: float) -> Iterator[None]:
    """Processor time of the block; a compiled loop notices when it returns to Python."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise Hang

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
