"""Measure samples against real images: FID, KID, precision, recall, accuracy.

--evaluate and --encode of main.py end here.
"""
