"""Measure time by stages and peak memory of inference and training; the plain reference that faster code must equal.

``tools/analysis_tools/benchmark.py`` and ``benchmark_training.py`` are the command lines of it.
"""
