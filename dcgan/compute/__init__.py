"""How a graph computes: devices, sessions, precision, XLA, kernels, workers."""
