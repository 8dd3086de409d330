"""The training: its iteration, its loop, its options, its checkpoints."""
