"""What a training leaves for people: metrics.csv, curves, TensorBoard, warnings."""
