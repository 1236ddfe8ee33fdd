"""The graphs of a candidate: exported once per model and weights, imported once per shape and workload."""

from __future__ import annotations

import gc
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tetrasim.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from tetrasim.dse.candidate import Candidate
    from tetrasim.flow.loading import LoadedModel
    from tetrasim.sim.workload import Workload


def load(candidate: Candidate) -> LoadedModel:
    """The candidate's graphs, imported once per shape and workload."""
    return _load(exported_folder(candidate), candidate.workload)


@lru_cache(maxsize=128)
def _load(folder: Path, workload: Workload) -> LoadedModel:
    from tetrasim.flow.loading import check_workload, find_model, load_model

    files = find_model(folder)
    model = load_model(files, check_workload(files, workload))
    gc.freeze()  # the graphs stay for the whole search: the collector need not walk them after every point
    return model


def exported_folder(candidate: Candidate) -> Path:
    """The ONNX export of the candidate's model, from the cache where it has been made before."""
    sparsity = candidate.sparsity if candidate.groups else 0.0  # times and resources do not read the weights
    text = candidate.model.model_dump_json()
    return _exported(text, candidate.trained_steps, bool(candidate.groups), sparsity)


@lru_cache(maxsize=1024)
def _exported(config_json: str, trained_steps: int, weights: bool, sparsity: str | float) -> Path:
    from tetrasim.export.exporter import export_model
    from tetrasim.models.config import ModelConfig

    config = ModelConfig.model_validate_json(config_json)
    source: Mapping[str, NDArray[np.float32]] | Literal["auto", "none"] = "auto" if weights else "none"
    try:
        if sparsity:
            from tetrasim.dse.weights import sparse_weights

            source = sparse_weights(config, trained_steps, sparsity)
        elif trained_steps >= 0:
            from tetrasim.dse.weights import trained_weights

            source = trained_weights(config, trained_steps)
        return export_model(config, weights=source, check=False).folder
    except (RuntimeError, OverflowError, MemoryError) as failure:  # torch, of dims beyond all bounds
        raise UserError(f"'{config.name}' cannot be exported: {failure}".splitlines()[0]) from None
