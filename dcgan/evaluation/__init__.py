"""Measure samples against real images: FID, KID, precision, recall, accuracy.

main.py calls it for --evaluate and --encode.
"""
