"""Augment the images of a batch: mirror half of them, others in each epoch."""

import numpy as np


def flip(images: np.ndarray, batch: int, part: slice) -> np.ndarray:
    """Images [b, h, w, c], about half of them mirrored, by NumPy's global random state.

    The images are `part` of a batch of `batch` images. Numbers are drawn for all.
    """
    is_flipped = (np.random.random_sample(batch) < 0.5)[part]
    return np.where(is_flipped[:, None, None, None], images[:, :, ::-1], images)
