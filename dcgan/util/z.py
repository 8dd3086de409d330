"""Draw z, the input of the generator."""

from collections.abc import Callable

import numpy as np

from dcgan.util.errors import UserError

Z_DISTRIBUTIONS: dict[str, Callable[..., np.ndarray]] = {
    'normal01': lambda rng, size: rng.standard_normal(size),
    'uniform_signed': lambda rng, size: rng.uniform(-1, 1, size),
    'uniform_unsigned': lambda rng, size: rng.uniform(0, 1, size),
}


def gen_random(mode: str, size: int | tuple[int, ...], rng=np.random) -> np.ndarray:
    """Draw float64 z of shape `size` by NumPy's global random state, or a RandomState.

    From the original. Raises UserError if `mode` is not one of Z_DISTRIBUTIONS.
    """
    if mode not in Z_DISTRIBUTIONS:
        names = ', '.join(Z_DISTRIBUTIONS)
        raise UserError(f'z_dist {mode!r} is unknown; choose one of {names}')
    return Z_DISTRIBUTIONS[mode](rng, size)
