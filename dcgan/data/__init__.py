"""Data sets: find, read, label, crop, decode and download images.

Nothing here imports TensorFlow, so that decoding processes start quickly.
"""
