"""How a graph computes: devices, sessions, precision, XLA, kernels, several workers.

What it computes is in model.py and in training/.
"""
