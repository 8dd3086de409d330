"""Helpers that know nothing of DCGAN: errors, files, signals, progress bars."""
