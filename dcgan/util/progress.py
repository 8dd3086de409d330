"""Show progress bars."""

from tqdm import tqdm

from dcgan.util.errors import escape


def progress_bar(
    name: str, total: float | None, unit: str, done: int = 0, delay: float = 0
) -> tqdm:
    """A tqdm progress bar that starts at `done` units and waits `delay` seconds."""
    how = {'unit': unit, 'unit_scale': True, 'mininterval': 1, 'miniters': 1}
    return tqdm(desc=escape(name), total=total, initial=done, delay=delay, **how)
