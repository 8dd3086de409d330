"""Record a training for people to read: metrics.csv, curves, TensorBoard, warnings.

A run can be resumed without these files; its checkpoints are in training/.
"""
