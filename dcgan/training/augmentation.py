"""Augment the images of a batch: mirror half of them, others in each epoch."""

import numpy as np


def flip(images: np.ndarray, batch: int, part: slice) -> np.ndarray:
    """Mirror about half of the images [b, h, w, c], by NumPy's global random state.

    They are `part` of a batch of `batch` images, for all of which numbers are drawn.
    """
    is_flipped = (np.random.random_sample(batch) < 0.5)[part]
    return np.where(is_flipped[:, None, None, None], images[:, :, ::-1], images)
