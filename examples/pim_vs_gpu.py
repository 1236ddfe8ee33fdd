"""Where PIM beats a GPU and where it stops doing so: read the grid of pim_vs_gpu.yaml per batch size.

python examples/pim_vs_gpu.py
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import tetrasim

if TYPE_CHECKING:
    from tetrasim.dse.study import Done, State

PIM, GPUS = "pim/pim-gpt", ("gpu/t4", "gpu/a100-sxm4-80gb")


def fastest(study: State, target: str, **fixed: int) -> Done:
    """The feasible trial of `target` with the shortest time per token; `fixed`: parameters by last name."""

    def matches(point: dict[str, object]) -> bool:
        last = {name.rpartition(":")[2].rpartition(".")[2]: value for name, value in point.items()}
        return all(last.get(name) == value for name, value in fixed.items())

    mine = [t for t in study.trials if t.feasible and t.point["target"] == target and matches(dict(t.point))]
    return min(mine, key=lambda t: t.metrics["token_us"])


def main() -> None:
    """Run (or continue) the study; PIM-GPT as published (8 channels, 16 lanes) and at its best."""
    study = tetrasim.explore(Path(__file__).with_suffix(".yaml"), "out/pim-vs-gpu")
    print(f"{'us per token':<16}{'PIM-GPT':>10}{'16 ch.':>10}{'T4':>10}{'A100':>10}   PIM-GPT beats")
    for batch in (1, 2, 4, 8, 16):
        stock = fastest(study, PIM, batch=batch, channels=8, per_channel=16, lanes=16)
        best = fastest(study, PIM, batch=batch)
        gpus = [fastest(study, name, batch=batch) for name in GPUS]
        times = [t.metrics["token_us"] for t in (stock, best, *gpus)]
        beaten = [n for n, g in zip(GPUS, gpus, strict=True) if g.metrics["token_us"] > times[0]]
        row = "".join(f"{t:>10.0f}" for t in times)
        print(f"batch {batch:<10}{row}   {', '.join(beaten) or 'neither'}")


if __name__ == "__main__":
    main()
