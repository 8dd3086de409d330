"""Count the processor cores that this process may use."""

import os


def usable_cores() -> int:
    """The number of CPU cores that this process may use."""
    affinity = getattr(os, 'sched_getaffinity', None)  # Linux has it
    return len(affinity(0)) if affinity else os.cpu_count() or 1
