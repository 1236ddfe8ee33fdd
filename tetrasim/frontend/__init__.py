"""Readers of model files: one folder per format, each turning a file into a `Graph`."""
