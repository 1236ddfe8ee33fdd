"""Random SIGKILLs of a study's workers and of its driver: no completed trial may be lost or counted twice.

    python benchmarks/dse_kill.py --kills 10 --trials 100
    python benchmarks/dse_kill.py --kills 10 --trials 100 --storage sqlite    # in place of the journal
    python benchmarks/dse_kill.py --kills 10 --trials 100 --storage postgresql://USER@HOST/DATABASE

A study runs with two workers while this script kills one of its processes now and then and starts the driver
again when that was it. Before every kill it notes which trials are recorded as completed. At the end all
trials must be completed, once each, and those noted must still be there with the same values. Exits with 1
otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tetrasim.dse.study import Done

STUDY = """
name: kill-%(name)s
model: {preset: gpt2-small}
workload: {prompt: 32, generate: %(generate)d}
targets:
  cpu/xeon-6154:
    dram.bandwidth_bytes_per_s: {low: 5.0e10, high: 4.0e11}
    core.clock_hz: {low: 1000000000, high: 4000000000}
objectives: [token_us, energy_mj]
search: {sampler: random, trials: %(trials)d, seed: 7}
"""


def children(parent: int) -> list[int]:
    """Direct children of a process, from /proc."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == parent and fields[0] != "Z":
                found.append(int(folder.name))
    return found


def completed(folder: Path, url: str) -> dict[int, tuple[float, ...]]:
    """Completed trials as recorded now: number -> objective values."""
    from optuna.trial import TrialState

    from tetrasim.dse.folder import SPEC
    from tetrasim.dse.spec_file import make_spec
    from tetrasim.dse.storage import open_study, storage_of

    file = folder / SPEC
    if not file.is_file():
        return {}
    spec = make_spec(json.loads(file.read_text())["spec"])
    trials = open_study(spec, storage_of(folder, url)).get_trials(deepcopy=False)
    return {t.number: tuple(t.values) for t in trials if t.state == TrialState.COMPLETE}


def unfinished(folder: Path) -> list[Done]:
    """Recorded trials without metrics."""
    from tetrasim.dse.folder import load

    return [t for t in load(folder).trials if not t.metrics]


def fresh_cache(place: Path) -> Path:
    """A cache without evaluations, so that every run simulates; exported graphs are the user's own."""
    from tetrasim.files.cache import cache_root

    exports = cache_root() / "exports"
    exports.mkdir(parents=True, exist_ok=True)
    cache = place / "cache"
    cache.mkdir()
    (cache / "exports").symlink_to(exports.resolve(), target_is_directory=True)
    return cache


class Study:
    """The driver process, restarted when it dies."""

    def __init__(self, spec: Path, folder: Path, cache: Path, url: str) -> None:
        self.cache = cache
        self.command = [sys.executable, "-m", "tetrasim", "dse", "run", str(spec), "-o", str(folder)]
        self.command += ["--workers", "2", "--quiet", "--json", *(("--storage", url) if url else ())]
        self.starts = 0
        self.start()

    def start(self) -> None:
        self.starts += 1
        environment = {**os.environ, "TETRASIM_CACHE": str(self.cache)}
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, env=environment)

    def kill_one(self, rng: random.Random) -> str:
        """SIGKILL the driver or one of its workers; returns which."""
        workers = children(self.process.pid)
        victim = rng.choice([self.process.pid, *workers])
        os.kill(victim, signal.SIGKILL)
        if victim != self.process.pid:
            return "worker"
        self.process.wait()
        self.start()
        return "driver"


def main() -> None:
    """Run, kill, check; the last line holds the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--generate", type=int, default=500, help="tokens per trial: how long one takes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--storage", default="journal", help="journal, sqlite or a database URL")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as place:
        spec, folder = Path(place) / "study.yaml", Path(place) / "study"
        known = {"journal": "", "sqlite": f"sqlite:///{place}/study.db"}
        url = known.get(options.storage, options.storage)
        name = Path(place).name.replace("_", "x")  # a database outlives this run, so no two may share a name
        spec.write_text(STUDY % {"name": name, "trials": options.trials, "generate": options.generate})
        started = time.monotonic()
        study, noted = Study(spec, folder, fresh_cache(Path(place)), url), {}
        killed = {"worker": 0, "driver": 0}
        while sum(killed.values()) < options.kills and study.process.poll() is None:
            # Wait until the study has moved since the last kill, so that every kill interrupts work.
            before = len(noted)
            deadline = time.monotonic() + 60
            wanted = before + rng.randint(0, max(1, options.trials // (options.kills + 1)))
            while time.monotonic() < deadline and study.process.poll() is None:
                noted |= completed(folder, url)
                if len(noted) >= wanted:
                    break
                time.sleep(0.1)
            time.sleep(rng.uniform(0.0, 0.5))
            noted |= completed(folder, url)
            if study.process.poll() is None and len(noted) < options.trials:
                killed[study.kill_one(rng)] += 1
        code = study.process.wait()
        final = completed(folder, url)
        other = {t.number: (t.note or "running") for t in unfinished(folder)}
        lost = [n for n, values in noted.items() if final.get(n) != values]
        distinct = len(set(final.values()))
        took = time.monotonic() - started
    ok = code == 0 and not lost and sorted(final) == list(range(options.trials))
    ok = ok and distinct == options.trials and sum(killed.values()) == options.kills
    if other:
        print(f"not completed: {other}")
    verdict, kind = "ok" if ok else "FAILED", options.storage.partition(":")[0]
    print(
        f"RESULT dse_kill {verdict} storage={kind} trials={len(final)} distinct={distinct} "
        f"lost={len(lost)} kills_worker={killed['worker']} kills_driver={killed['driver']} "
        f"driver_starts={study.starts} seconds={took:.0f}"
    )
    raise SystemExit(0 if ok else 1)


if __name__ == "__main__":
    main()
