"""Measure samples against real images: FID, KID, precision, recall, accuracy."""
