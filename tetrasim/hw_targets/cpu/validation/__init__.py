"""Committed measurements of processors, and the graphs and ops that they were taken on."""
