"""Runs as folders with recorded flags, and the command line that names them.

main.py calls these modules to settle which run, data and sizes it works on.
"""
