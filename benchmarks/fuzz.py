"""Mutated inputs of every kind through the command line: what must never happen is counted.

    python benchmarks/fuzz.py --runs 10000 --seed 1
    python benchmarks/fuzz.py --kind op_csv --runs 200

Every run must end with exit code 0 or 2, without a traceback, within 10 s of processor time, without a
partial output or a stray file, and must not accept nonsense. Prints a table by kind, and each fault.
Exits with 1 when there is any.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.fuzz.harness import Verdict, case, prepare
from tests.fuzz.kinds import KINDS

MEMORY_BYTES = 8 << 30
COLUMNS = (
    "runs",
    "exit 0",
    "exit 2",
    "tracebacks",
    "hangs",
    "partial outputs",
    "stray files",
    "nonsense",
    "other",
)


def _limited() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


def _one(job: tuple[str, str, str]) -> Verdict:
    kind, seed, base = job
    return case(kind, seed, Path(base))


def _column(fault: str) -> str:
    names = {"traceback": "tracebacks", "hang": "hangs", "partial output": "partial outputs"}
    if fault.startswith(("stray file", "hidden file")):
        return "stray files"
    return names.get(fault, "nonsense" if fault.startswith("nonsense") else "other")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--kind", choices=list(KINDS))
    options = parser.parse_args()
    kinds = [options.kind] if options.kind else list(KINDS)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tetrasim-fuzz-") as scratch:
        base = Path(scratch) / "base"
        os.environ["TETRASIM_CACHE"] = str(Path(scratch) / "cache")
        prepare(base)
        jobs = [(kinds[i % len(kinds)], f"{options.seed}.{i}", str(base)) for i in range(options.runs)]
        context = multiprocessing.get_context("spawn")
        with context.Pool(options.workers, initializer=_limited, maxtasksperchild=500) as pool:
            verdicts = list(pool.imap_unordered(_one, jobs, chunksize=4))
    counts = {kind: Counter[str]() for kind in kinds}
    for verdict in verdicts:
        counts[verdict.kind].update(["runs", f"exit {verdict.code}"])
        counts[verdict.kind].update({_column(fault) for fault in verdict.faults})
    sys.stdout.write(f"{'kind':<14}" + "".join(f"{name:>16}" for name in COLUMNS) + "\n")
    for kind, found in counts.items():
        sys.stdout.write(f"{kind:<14}" + "".join(f"{found[name]:>16}" for name in COLUMNS) + "\n")
    bad = [v for v in verdicts if v.faults]
    for verdict in bad[:40]:
        sys.stdout.write(f"\n{verdict.kind} {verdict.seed}: {', '.join(verdict.faults)}\n")
        sys.stdout.write(f"  {verdict.command}\n  {verdict.said[-700:]!r}\n")
    sys.stdout.write(f"{len(verdicts)} runs, {len(bad)} faults, {time.monotonic() - began:.0f} s\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
