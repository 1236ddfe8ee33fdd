"""The codesign loop in 30 lines: a study in Python and its front.

python examples/explore.py
"""

import tetrasim

STUDY = {
    "name": "explore",
    "model": {"preset": "gpt2-small", "dims": {"layers": [6, 12]}},
    "workload": {"batch": [1, 4, 16], "prompt": 32, "generate": 9},
    "targets": {
        "gpu/t4": {"launch": ["graph", "stream"]},
        "cpu/xeon-6154": {"precision": ["float32", "bfloat16"]},
    },
    "objectives": ["token_us", "energy_per_token_mj"],
    "search": {"sampler": "grid", "trials": 100},
}


def main() -> None:
    """Explore, print the front."""
    study = tetrasim.explore(STUDY, "out/explore-example")
    print(f"{len(study.trials)} trials, {len(study.front)} on the front")
    for trial in study.front:
        token, energy = trial.metrics["token_us"], trial.metrics["energy_per_token_mj"]
        print(f"  {trial.point}: {token:.0f} us and {energy:.1f} mJ per token")


if __name__ == "__main__":
    main()
