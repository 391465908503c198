"""Measurements for the few minutes in which a GPU is available: `python -m benchmarks.on_gpu`; see docs/gpu.md."""
