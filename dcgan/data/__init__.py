"""Find, read, label, crop, decode and download images; without TensorFlow."""
