"""The overlay beside three published accelerators: DFX, FlightLLM and SSR. Nothing is fitted to them.

    python reproductions/fpga_overlay.py [dfx] [flightllm] [ssr]

Only what abstracts and summaries say could be retrieved: ratios against other hardware, no absolute latency,
no power. The other hardware is simulated too, so every ratio here is model against model.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from tetrasim import facade
from tetrasim.sim.result import Result

Settings = dict[str, str | int | float | bool]
PUBLISHED = {
    "dfx": "four U280 over four V100, GPT-2: 5.58 x the speed, 3.99 x the energy efficiency"
    " (arXiv 2209.10797)",
    "flightllm": "U280 over V100S, Llama 2 7B, batch 1: 6.0 x the energy efficiency;"
    " VHK158 over A100: 1.2 x the throughput (arXiv 2401.03868)",
    "ssr": "VCK190, four vision transformers, 8 bits, mean throughput: 2.53 x an A10G, 35.71 x a ZCU102"
    " design, 14.20 x a U250 design (arXiv 2401.10417)",
}
PROMPT, GENERATE = 32, 128
FULL = {"numbers.weight_density": 1.0, "numbers.weight_index_bits": 0.0}
BATCH = 6


def run(model: str, preset: str, settings: Settings, *, generate: int = GENERATE, batch: int = 1) -> Result:
    """One result, without the numerics check."""
    prompt = PROMPT if generate else None
    found = facade.simulate(
        model, preset, prompt=prompt, generate=generate, batch=batch, settings=settings, numerics=False
    )
    return found.results[0]


def show(name: str, result: Result) -> tuple[float, float]:
    """Seconds and joules, printed."""
    seconds, joules = result.latency.value * 1e-9, result.energy.value * 1e-12
    print(f"  {name:<58} {seconds:9.4f} s {joules:9.2f} J")
    return seconds, joules


def dfx() -> None:
    """One card against one GPU: half-precision weights streamed from HBM."""
    card = show("GPT-2 XL, one U280", run("gpt2-xl", "fpga/u280", {}))
    for launch in ("eager", "graph"):
        gpu = show(f"GPT-2 XL, one V100, {launch}", run("gpt2-xl", "gpu/v100-pcie-32gb", {"launch": launch}))
        print(f"    ours: {gpu[0] / card[0]:.2f} x the speed, {gpu[1] / card[1]:.2f} x the energy efficiency")
    print(
        "  The published baseline launches every kernel from a framework on four GPUs that exchange\n"
        "  activations; with launches hidden, the V100's larger bandwidth wins. Several cards are not "
        "modelled."
    )


def flightllm() -> None:
    """Compressed weights on a U280, and on a card of the class of VHK158."""
    gpu = show("Llama 2 7B, V100, float16, recorded graph", run("llama2-7b", "gpu/v100-pcie-32gb", {}))
    variants: dict[str, Settings] = {
        "8-bit weights, all kept": {**FULL, "numbers.weight_bits": 0.0},
        "3.5-bit weights, all kept": {**FULL},
        "3.5-bit weights, half kept (the preset)": {},
    }
    for name, settings in variants.items():
        card = show(f"Llama 2 7B, U280, {name}", run("llama2-7b", "fpga/flightllm", settings))
        print(f"    ours: {gpu[1] / card[1]:.1f} x the energy efficiency, {gpu[0] / card[0]:.2f} x the speed")
    like: Settings = {
        "numbers.weight_density": 0.5,
        "numbers.weight_bits": 3.5,
        "numbers.weight_index_bits": 2.0,
    }
    engine: Settings = {"overlay.columns": 64, "overlay.dsp_per_mac": 1.0, "numbers.format": "int8"}
    fast: Settings = {"off_chip.bandwidth_bytes_per_s": 819e9, "off_chip.efficiency": 0.659}
    versal = show(
        "Llama 2 7B, V80 with 819 GB/s (as VHK158)", run("llama2-7b", "fpga/v80", like | engine | fast)
    )
    big = show("Llama 2 7B, A100, float16, recorded graph", run("llama2-7b", "gpu/a100-sxm4-80gb", {}))
    print(f"    ours: {big[0] / versal[0]:.2f} x the throughput of the A100")
    print(
        "  Weight bits are recalled, the share kept and the card's energy coefficients are assumed; the\n"
        "  published baseline runs vLLM, whose launches and sampling our GPU model hides."
    )


def ssr() -> None:
    """Weights on chip, a batch of images; engines as large as the boards' multipliers allow."""
    boards: dict[str, tuple[str, Settings, str]] = {
        "VCK190, AI engines": ("fpga/vck190", {}, ""),
        "U250, 20,480 products per cycle": (
            "fpga/u250",
            {"overlay.dot_length": 128, "overlay.columns": 160, "overlay.dsp_per_mac": 0.5},
            "14.20",
        ),
        "ZCU102, 4,096 products per cycle": (
            "fpga/zcu102",
            {"overlay.dot_length": 64, "overlay.columns": 64, "overlay.dsp_per_mac": 0.5},
            "35.71",
        ),
    }
    common: Settings = {"numbers.format": "int8", "mapping": "overlay", "overlay.vector_lanes": 1024}
    common |= {"overlay.function_lanes": 256, "off_chip.bandwidth_bytes_per_s": 1e15}
    seconds = {}
    for name, (preset, engine, published) in boards.items():
        result = run("deit-ti", preset, common | engine, generate=0, batch=BATCH)
        seconds[name] = show(f"DeiT-Ti, {BATCH} images, {name}", result)[0]
        if published:
            gain = seconds[name] / seconds["VCK190, AI engines"]
            print(f"    ours: {gain:.1f} x the throughput on VCK190; published {published}")
    gpu = show(f"DeiT-Ti, {BATCH} images, A10", run("deit-ti", "gpu/a10", {}, generate=0, batch=BATCH))[0]
    gain = gpu / seconds["VCK190, AI engines"]
    print(f"    ours: {gain:.1f} x the throughput on VCK190; published 2.53 (A10G)")
    print(
        "  The published baselines are other groups' designs, below what the boards' multipliers allow.\n"
        "  Vector units are as wide on all boards, weights resident; energies of AI engines have no source."
    )


def main() -> None:
    """The comparisons named, or all."""
    known: dict[str, Callable[[], None]] = {"dfx": dfx, "flightllm": flightllm, "ssr": ssr}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*known, []])
    for name in parser.parse_args().names or known:
        print(f"{name}: published {PUBLISHED[name]}")
        known[name]()


if __name__ == "__main__":
    main()
