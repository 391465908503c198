"""What a GPU is asked in the few minutes that it is at hand: `python -m benchmarks.on_gpu`; see docs/gpu.md."""
