"""Draw z, the input of the generator."""

from collections.abc import Callable

import numpy as np

from dcgan.util.errors import UserError

Z_DISTRIBUTIONS: dict[str, Callable[..., np.ndarray]] = {
    'normal01': np.random.standard_normal,
    'uniform_signed': lambda size: np.random.uniform(-1, 1, size),
    'uniform_unsigned': lambda size: np.random.uniform(0, 1, size),
}


def gen_random(mode: str, size: int | tuple[int, ...]) -> np.ndarray:
    """Draw z from the distribution `mode`, using NumPy's global random state.

    normal01 is N(0, 1), uniform_signed is uniform in [-1, 1), and uniform_unsigned is
    uniform in [0, 1). The result is float64 of shape `size`.
    Raises UserError for other modes. From the original.
    """
    if mode not in Z_DISTRIBUTIONS:
        raise UserError(
            f'z_dist {mode!r} is unknown; choose one of {", ".join(Z_DISTRIBUTIONS)}'
        )
    return Z_DISTRIBUTIONS[mode](size=size)
