"""Run graphs: devices, sessions, precision, XLA, kernels of layers, several workers.

The graphs themselves are built in model.py and training/.
"""
