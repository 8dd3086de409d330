"""Runs as folders with recorded flags, and the command line that names them."""
