"""What a training leaves for people to read: metrics.csv, curves, TensorBoard.

These files can be lost without losing a training; its checkpoints are in training/.
"""
