"""Run graphs: devices, sessions, precision, XLA, kernels of layers, several workers."""
