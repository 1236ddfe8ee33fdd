"""What a study can optimise or constrain: names, units in the names, directions, and where they come from.

`proxy` metrics compare the target's arithmetic with full precision on fixed inputs; they stand in for
accuracy where no task data ships with a package, and are named so.
"""

from __future__ import annotations

from dataclasses import dataclass

from tetrasim.errors import UserError, nearest


@dataclass(frozen=True, slots=True)
class MetricInfo:
    """`maximise` is the direction as an objective; `source` groups what has to be computed."""

    name: str
    maximise: bool
    source: str  # "time", "resource", "cost", "accuracy", "proxy", "model"
    text: str

    @property
    def sparse(self) -> bool:
        """Whether zero weights change it."""
        return self.source in ("accuracy", "proxy") or self.name == "nonzero_parameters"


_ALL = (
    MetricInfo("latency_us", False, "time", "the whole run"),
    MetricInfo("first_token_us", False, "time", "the prefill"),
    MetricInfo("token_us", False, "time", "mean time per generated token after the first"),
    MetricInfo("last_token_us", False, "time", "time of the last generated token"),
    MetricInfo("tokens_per_s", True, "time", "generated tokens (all sequences) per second of the whole run"),
    MetricInfo("energy_mj", False, "time", "millijoules of the whole run"),
    MetricInfo("energy_per_token_mj", False, "time", "millijoules per generated token"),
    MetricInfo("energy_delay_mj_us", False, "time", "energy times latency"),
    MetricInfo("memory_bytes", False, "resource", "weights, state and activations at the largest state"),
    MetricInfo("weights_bytes", False, "resource", "weights in the target's formats"),
    MetricInfo("area_mm2", False, "resource", "silicon area, where the target knows it"),
    MetricInfo("lut", False, "resource", "FPGA look-up tables"),
    MetricInfo("ff", False, "resource", "FPGA flip-flops"),
    MetricInfo("dsp", False, "resource", "FPGA DSP slices"),
    MetricInfo("bram18", False, "resource", "FPGA block RAMs of 18 kbit"),
    MetricInfo("uram", False, "resource", "FPGA UltraRAMs"),
    MetricInfo("price_usd", False, "cost", "purchase of the device, as the study's prices give it"),
    MetricInfo("usd_per_million_tokens", False, "cost", "device and electricity per million tokens"),
    MetricInfo(
        "usd_per_million_runs", False, "cost", "device and electricity per million inputs (or sequences)"
    ),
    MetricInfo("parameters", False, "model", "the model's parameters"),
    MetricInfo(
        "nonzero_parameters", False, "model", "the model's parameters without those that sparsity zeroes"
    ),
    MetricInfo("accuracy", True, "accuracy", "share of digits classified right with the target's arithmetic"),
    MetricInfo("proxy_top1", True, "proxy", "proxy: share of outputs whose largest entry is that of float32"),
    MetricInfo("proxy_cosine", True, "proxy", "proxy: cosine between the target's outputs and float32's"),
    MetricInfo("proxy_kl", False, "proxy", "proxy: KL divergence of the output distributions, nats"),
)
METRICS = {m.name: m for m in _ALL}
PRICES = ("cost", "price", "cost_usd", "usd", "dollars")  # asked for in these words


def metric_info(name: str, where: str = "") -> MetricInfo:
    """The metric called `name`.

    Raises:
        UserError: unknown name, with the nearest.
    """
    if name.lower() in PRICES:
        raise UserError(
            f"unknown metric '{name}'",
            where=where,
            hint="price_usd, usd_per_million_tokens or usd_per_million_runs, from `prices` of the study",
        )
    if name not in METRICS:
        raise UserError(f"unknown metric '{name}'", where=where, hint=nearest(name, METRICS))
    return METRICS[name]
