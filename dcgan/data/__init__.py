"""Find, read, label, crop, decode and download the images of data sets.

Nothing here imports TensorFlow, so that decoding processes start quickly.
"""
