"""Sessions of onnxruntime: the one place that imports it, so that it never reports to its makers.

onnxruntime 1.30 and later keep a device id under the home folder and send usage data. Only an environment
variable that is set before the library is loaded keeps it from both; `tetrasim/__init__.py` sets it by
importing this module, and so does every process that we start. SECURITY.md states the promise.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnxruntime as ort

# Read by the libraries when they are loaded: onnxruntime (1.30 and later), Hugging Face, and the common
# request of users. An earlier choice of the user to report does not count inside a process of ours.
NO_REPORTS = {
    "ORT_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
}


def forbid_reports() -> None:
    """No library of this process, or of one that it starts, reports to its makers."""
    os.environ.update(NO_REPORTS)


def library() -> ModuleType:
    """onnxruntime with its telemetry off, loaded at the first call."""
    forbid_reports()
    import onnxruntime

    # For a process that had imported it before us: what it has begun is stopped here.
    onnxruntime.disable_telemetry_events()
    loaded: ModuleType = onnxruntime
    return loaded


def session_options(threads: int = 1, *, as_written: bool = True) -> ort.SessionOptions:
    """Options of a quiet session that runs node after node.

    Args:
        threads: of one op. More than one changes the order of additions, and so the last bit, with the host.
        as_written: every op as the file has it, without onnxruntime's own fusions and folding.
    """
    loaded = library()
    options: ort.SessionOptions = loaded.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # its own words reach the terminal unescaped; failures are exceptions
    if as_written:
        options.graph_optimization_level = loaded.GraphOptimizationLevel.ORT_DISABLE_ALL
    return options


def open_session(
    model: Path | str | bytes, options: ort.SessionOptions | None = None
) -> ort.InferenceSession:
    """A session on the CPU of a file or of a serialised model; `options` None: as written, one thread.

    Raises:
        Exception: of onnxruntime's own types, when it does not run the model.
    """
    source = model if isinstance(model, bytes) else str(model)
    chosen = options or session_options()
    made: ort.InferenceSession = library().InferenceSession(
        source, chosen, providers=["CPUExecutionProvider"]
    )
    return made
