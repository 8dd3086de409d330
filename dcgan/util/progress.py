"""Show progress bars."""

from tqdm import tqdm


def progress_bar(
    name: str, total: float | None, unit: str, done: int = 0, delay: float = 0
) -> tqdm:
    """A tqdm progress bar with rate and remaining time, for a `with` statement.

    total  number of units in all; None: unknown
    unit   name of the unit, printed after each number
    done   number of units that were finished earlier
    delay  seconds before the bar appears
    """
    return tqdm(
        desc=name,
        total=total,
        unit=unit,
        initial=done,
        delay=delay,
        unit_scale=True,
        mininterval=1,
        miniters=1,
    )
