"""Measuring the machine this runs on: peaks, bandwidths, and the costs of onnxruntime's kernels."""
