"""Whole models on GPUs stay within their accuracy on published times (BERT; benchmarks/ has them all)."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "gpu_models.py"
# BERT large alone; over all models V100 is at 4 %, see VALIDATION.md of the target
MUST = {"v100-pcie-32gb": 0.1, "a100-pcie-40gb": 0.07, "h100-sxm": 0.07, "l4": 0.15, "t4": 0.17}


@pytest.fixture(scope="module")
def models() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_models", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu_models"] = module
    spec.loader.exec_module(module)
    return module


def test_bert_large_in_float32(models: ModuleType) -> None:
    errors: dict[str, list[float]] = {preset: [] for preset in MUST}
    for row in models.neusight("bert_large"):
        errors[row.preset].append(abs(row.error))
    assert all(len(found) >= 2 for found in errors.values())
    assert not {p: found for p, found in errors.items() if np.mean(found) > MUST[p]}


def test_packing_saves_what_the_padding_cost(models: ModuleType) -> None:
    settings = {"precision": "float16", "launch": "graph", "attention": "flash2"}
    padded = models.simulate_ms("bert-base", "a100-sxm4-80gb", 32, 384, **settings)
    packed = models.simulate_ms("bert-base", "a100-sxm4-80gb", 32, 384, fill=0.5, **settings)
    assert 0.4 < packed / padded < 0.6
