"""Animate the image grids of a training as progress.gif."""

import os

from PIL import Image

from dcgan.data.image_grids import save_gif
from dcgan.util.errors import UserError
from dcgan.util.files import glob_files
from dcgan.util.output import print_path


def make_progress_gif(sample_dir: str) -> None:
    """Animate sample_dir/train_*.png as progress.gif there, and print its path.

    Leaves out grids of another batch size than the last one's. UserError without grids.
    """
    paths = sorted(glob_files(sample_dir, 'train_*.png'))
    if not paths:
        raise UserError(
            f'{sample_dir}: no image grids (train_*.png) for --gif; train the run '
            'first or choose another --sample_dir'
        )
    last_size = Image.open(paths[-1]).size
    grids = (grid for grid in map(Image.open, paths) if grid.size == last_size)
    gif_path = os.path.join(sample_dir, 'progress.gif')
    save_gif(grids, gif_path, milliseconds=150)
    print_path(gif_path)
