"""The training: its iteration, its loop, its options, its checkpoints.

model.py has the networks and losses that it trains.
"""
