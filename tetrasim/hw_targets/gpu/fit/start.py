"""Where the GPU fit starts: bounds with a physical meaning, starting values, and entries made from others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tetrasim.hw_targets.gpu.calibration import Calibration, moved
from tetrasim.hw_targets.gpu.fit.search import Bounds
from tetrasim.hw_targets.gpu.kernels.attention import AttentionFit
from tetrasim.hw_targets.gpu.kernels.gemm import GemmFit
from tetrasim.hw_targets.gpu.kernels.vector import VectorFit
from tetrasim.hw_targets.gpu.measurements import preset_config
from tetrasim.hw_targets.gpu.power import PowerFit
from tetrasim.hw_targets.gpu.transfer import SharedGemm, gemm_fit, slower_attention

GEMM_BOUNDS: Bounds = {
    "start_us": (0.5, 20), "wave_us": (1e-3, 5), "epilogue_us": (1e-3, 10), "epilogue_exposed": (1e-3, 1),
    "split_us": (0.1, 40), "reduce_efficiency": (0.02, 10), "compute_efficiency": (0.1, 1.06),
    "tile_exponent": (0.01, 3), "latency_us": (0.05, 10), "dram_latency_us": (1e-3, 5), "stages": (1.5, 16),
    "l2_efficiency": (0.1, 3), "read_efficiency": (0.2, 1), "write_efficiency": (0.2, 1), "overlap": (1, 12),
    "l2_share": (0.05, 4), "l2_onset": (0.01, 0.95),
}  # fmt: skip
ATTENTION_BOUNDS: Bounds = {
    "start_us": (1, 40), "batch_us": (1e-4, 1), "block_us": (1e-3, 10), "row_us": (1e-4, 0.2),
    "tile_us": (0.05, 5), "softmax_us": (1e-3, 2), "tail": (1e-3, 1), "compute_efficiency": (0.1, 1),
    "l2_efficiency": (0.1, 2), "read_efficiency": (0.3, 0.96), "overlap": (1, 12), "l2_share": (0.05, 3),
}  # fmt: skip
DECODE_BOUNDS: Bounds = {
    **{n: b for n, b in ATTENTION_BOUNDS.items() if n not in ("softmax_us", "tail")},
    "combine_us": (0.05, 10), "combine_split_us": (1e-3, 2), "regroup_us": (1e-3, 12),
}  # fmt: skip
PREFILL_BOUNDS: Bounds = {**ATTENTION_BOUNDS, "append_passes": (0.1, 8)}
VECTOR_BOUNDS: Bounds = {
    "reduce_us": (0.1, 3), "row_us": (1e-4, 0.1), "reduce_passes": (1, 4), "memory_efficiency": (0.3, 1),
    "l2_efficiency": (0.3, 2), "compute_efficiency": (0.05, 2), "overlap": (1, 12), "l2_share": (0.05, 4),
    "eager_us": (5, 60),
}  # fmt: skip
LAUNCH_BOUNDS: Bounds = {"eager_product_us": (5, 60)}
LIMITER_BOUNDS: Bounds = {
    "fp32_pj_per_flop": (1, 30), "response_us": (50, 1e5), "stretch_exponent": (0.3, 1),
}  # fmt: skip
FLOAT8_BOUNDS: Bounds = {**GEMM_BOUNDS, "quantise_us": (0.5, 30), "quantise_passes": (0.5, 10)}
EAGER_GEMM_BOUNDS: Bounds = {
    **{n: b for n, b in GEMM_BOUNDS.items() if n not in ("start_us", "l2_onset")},
    "choice": (2, 200), "unaligned": (1, 2), **LAUNCH_BOUNDS,
}  # fmt: skip
# Only where no table under sustained replay has put the limit into the compute efficiency.
LIMITED_GEMM_BOUNDS: Bounds = {**EAGER_GEMM_BOUNDS, **LIMITER_BOUNDS}

_HALF = GemmFit(
    2.7, 0.2, 0.9, 0.6, 2.7, 1.0, 0.87, 0.35, 0.6, 0.3, 8, 1.5, 0.84, 0.95, 4.5, 0.9, l2_onset=0.3
)
_FLOAT8 = replace(_HALF, quantise_us=9, quantise_passes=3)
_SIMT = GemmFit(
    3, 0.05, 0.5, 0.3, 4, 0.5, 0.9, 0.2, 1.0, 0.2, 4, 0.5, 0.9, 0.6, 4, 0.5, choice=15, unaligned=1.1
)
_DECODE = AttentionFit(8, 0.01, 2, 0.01, 1.2, 1e-3, 1e-3, 2, 0.1, 0.1, 0, 0.6, 1.2, 0.92, 2, 0.3)
_PREFILL = AttentionFit(8, 0.1, 2, 0.01, 0.4, 0.3, 0.3, 1, 0.1, 0, 3, 0.8, 1.2, 0.92, 4, 0.5)
_ENCODER = AttentionFit(10, 0.01, 2, 0.01, 0.4, 0.05, 0.3, 1, 0.1, 0, 0, 0.8, 1.2, 0.92, 2, 0.8)
_VECTOR = VectorFit(2.3, 1.0, 0.001, 1.3, 0.87, 1.0, 0.5, 6, 3.0)

# Energies: NNLS fits of the gpu-benches power sweeps (A100, H200, L40) where they exist; tensor-core energy
# of A100, L4 and T4 from the board limit at the best measured rate (inferred). stretch_exponent 0: the GEMM
# tables were measured under sustained replay, so the limit is already in the fitted compute efficiency.
# T4's share of the limiter's stretch in whole models: leaves NeuSight's four models without bias;
# FasterTransformer's float32 runs, which were not used, fall from 39 to 29 %.
T4_MODEL_SHARE = 0.75
_POWER = {
    "t4": PowerFit(2, 8, 10, 1.6, 90, 5, 2000, 0.7, model_share=T4_MODEL_SHARE),
    "v100-pcie-32gb": PowerFit(5, 30, 7, 1.2, 118, 10, 1500, 0.8),
    "a100-pcie-40gb": PowerFit(5, 40, 5.19, 0.8, 118, 10, 3000, 0.7),
    "a100-sxm4-80gb": PowerFit(10, 60, 5.19, 0.8, 118, 10, 3000, 0.0),
    "h100-sxm": PowerFit(25, 90, 5.81, 0.63, 94, 11, 3000, 0.0),
    "h200-sxm": PowerFit(25, 90, 5.81, 0.63, 94, 11, 3000, 0.0),
    "l4": PowerFit(2, 8, 6, 0.55, 95, 5, 2400, 0.7),
}
STARTS = tuple(_POWER)


def start_calibration(preset: str) -> Calibration:
    """Starting values of a preset's fit."""
    gemm = (_SIMT, _HALF, _HALF, _FLOAT8, _FLOAT8)
    config = preset_config(preset)
    attention = (_DECODE, _PREFILL, _ENCODER)
    return Calibration(gemm, attention, _VECTOR, _POWER[preset], config.clock_hz, config.sm_count)


def _older_half(preset: str, compute_efficiency: float, shared: SharedGemm) -> GemmFit:
    """Volta and Turing: the shared parameters, with the fraction of the peak that FasterTransformer's BERT
    rows of batch 8 show (batches 1 and 32 were left out)."""
    return replace(gemm_fit(shared, preset_config(preset)), compute_efficiency=compute_efficiency)


SHARED = ("tfloat32", "half", "float8", "int8")  # formats that take the shared 16-bit parameters
# Where each family's other parameters come from, as far as clock and number of SMs go.
_FAMILY_DEVICE = {"ampere": "a100-sxm4-80gb", "hopper": "h100-sxm", "ada": "l40s"}


def _family(name: str, fit: Calibration, shared: tuple[str, ...], power: PowerFit) -> Calibration:
    """An entry for devices of an architecture that were never measured."""
    at = moved(replace(fit, shared=()), preset_config(_FAMILY_DEVICE[name]))
    return replace(at, power=power, shared=shared)


# Fractions of the 16-bit peak that T4's and V100's products reach: least error on FasterTransformer's BERT
# runs of batch 8, for want of a table of kernels (`python reproductions/bert_fractions.py`).
T4_HALF, V100_HALF = 0.5, 0.95
# Ada: 278 TF/s, the best measured bf16 rate of an L40S, at its limit of 350 W.
ADA_TENSOR_PJ_PER_FLOP = 0.86
# Ada's float32 fraction of the peak where power does not limit it: assumed; L4's own is its limit of 72 W.
ADA_FLOAT32_EFFICIENCY = 0.7
# Hopper's limiter was never measured: time goes with the square root of the excess (assumed, between the
# fitted boards).
HOPPER_STRETCH = 0.5


def complete(
    fits: Mapping[str, Calibration],
    shared: SharedGemm,
    t4_half: float = T4_HALF,
    v100_half: float = V100_HALF,
) -> dict[str, Calibration]:
    """Fill what no table measures from the nearest device that has it, and add the families.

    A100 PCIe's tensor cores keep the published energy per flop: the factor that its float32 products need
    under the limit of 250 W would leave 155 TF/s, and 253 are published (stas00 ml-engineering, A100 PCIe).
    """
    a100, h100 = fits["a100-sxm4-80gb"], fits["h100-sxm"]
    half = {
        "t4": _older_half("t4", t4_half, shared),
        "v100-pcie-32gb": _older_half("v100-pcie-32gb", v100_half, shared),
        "a100-pcie-40gb": a100.gemm[2],
    }
    pcie = fits["a100-pcie-40gb"].power
    encoder = replace(a100.attention[1], append_passes=0.0)
    attention = (*a100.attention[:2], encoder)
    quantise = {"quantise_us": h100.gemm[3].quantise_us, "quantise_passes": h100.gemm[3].quantise_passes}
    out: dict[str, Calibration] = {}
    for preset, fit in fits.items():
        sixteen = half.get(preset, fit.gemm[2])
        eight = h100.gemm[3] if preset.startswith("h") else replace(sixteen, **quantise)
        out[preset] = replace(
            fit,
            gemm=(fit.gemm[0], sixteen, sixteen, eight, replace(sixteen, **quantise)),
            attention=fit.attention if preset.startswith("h") else attention,
            vector=a100.vector if preset.startswith("h") else fit.vector,
        )
    ada_power = replace(
        a100.power,
        fp32_pj_per_flop=3.27,
        tensor_pj_per_flop=ADA_TENSOR_PJ_PER_FLOP,
        dram_pj_per_byte=95,
        stretch_exponent=0.8,
        response_us=50,
    )
    ada_simt = replace(fits["l4"].gemm[0], compute_efficiency=ADA_FLOAT32_EFFICIENCY)
    older = tuple(slower_attention(a, a100.clock_hz / fits["l4"].clock_hz) for a in attention)
    out["l4"] = replace(out["l4"], attention=older, shared=SHARED)
    ada = replace(out["l4"], gemm=(ada_simt, *out["l4"].gemm[1:]))
    ampere, hopper = out["a100-sxm4-80gb"], out["h100-sxm"]
    # Boards with less power than the measured ones: Ampere as fitted on A100 PCIe's 250 W.
    limit = {"stretch_exponent": pcie.stretch_exponent, "response_us": pcie.response_us}
    out["ampere"] = _family("ampere", ampere, SHARED, replace(ampere.power, **limit))
    limit = {"stretch_exponent": HOPPER_STRETCH, "response_us": pcie.response_us}
    out["hopper"] = _family("hopper", hopper, ("tfloat32", "half", "int8"), replace(hopper.power, **limit))
    out["ada"] = _family("ada", ada, SHARED, ada_power)
    return out
