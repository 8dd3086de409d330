"""Open a data set, of either kind, and read images of it."""

import os
from collections.abc import Iterator

import numpy as np

from dcgan.data.celeba import PARTITIONS
from dcgan.data.find_images import require_folder
from dcgan.data.idx import ArraySet, ImagesAndLabels, array_files
from dcgan.data.image_folder import ImageSet
from dcgan.data.images import MAX_PIXELS
from dcgan.util.cores import usable_cores
from dcgan.util.errors import UserError
from dcgan.util.flags import Flag, Group
from dcgan.util.progress import progress_bar

# path, in the folder of the data sets, of the graph that published FIDs use
INCEPTION = os.path.join('inception', 'classify_image_graph_def.pb')
CHUNK = 250  # images that `read_images` reads at once
Dataset = ArraySet | ImageSet


def read_images(
    data: Dataset, indices: np.ndarray, name: str, delay: float = 0
) -> Iterator[ImagesAndLabels]:
    """Yield images and labels in chunks, with a progress bar called `name`."""
    chunks = np.split(indices, range(CHUNK, len(indices), CHUNK))
    with progress_bar(name, len(indices), ' images', delay=delay) as bar:
        for images, labels in data.read(chunks):
            yield images, labels
            bar.update(len(images))


def open_dataset(
    folder: str,
    pattern: str | None,
    output_size: tuple[int, int],
    input_size: tuple[int, int | None],
    crop: bool,
    grayscale: bool,
    by_class: bool = False,
    **dataset_options,
) -> Dataset:
    """Open the data set in a folder: an ArraySet of `array_files`, or an ImageSet.

    Sizes are (height, width) in pixels, `input_size` of the center crop; an ArraySet
    uses only `output_size`. Raises UserError if the folder has no usable data.
    """
    require_folder(folder)
    folder = os.path.normpath(folder)
    if array_files(folder):
        return ArraySet(folder, *output_size, by_class)
    names = 'input_height', 'input_width', 'resize_height', 'resize_width'
    sizes = dict(zip(names, (*input_size, *output_size)))
    options = {**dataset_options, 'grayscale': grayscale, **sizes, 'crop': crop}
    return ImageSet(folder, pattern, by_class, **options)


def check_fit(data: Dataset, name: str, batch_size: int, y_dim: int | None) -> None:
    """Raise UserError if a data set does not fill a batch, or has too many classes."""
    if len(data) < batch_size:
        problem = f'{len(data)} images do not fill a batch of {batch_size}'
        raise UserError(f'{name}: {problem}; add images or lower --batch_size')
    if y_dim and data.classes > y_dim:
        raise UserError(f'{name}: has {data.classes} classes, the model y_dim {y_dim}')


# fmt: off
FLAGS = Group(
    'Data',
    'labels, and what is read, docs/data.md: --labels, --bbox, ...',
    Flag('conditional', False, 'Take each folder for a class', 'data result labels'),
    Flag('attributes', '', "Attributes in CelebA's list, such as Male,Smiling; each "
         'combination is a class', 'data result labels'),
    Flag('labels', '', 'CSV file of classes, with a row `name,label` for each image',
         'data result labels'),
    Flag('unconditional', False, 'Ignore labels of IDX, batches', 'data result labels'),
    Flag('grayscale', False, 'Read images as grayscale', 'data result'),
    Flag('partition', 'all', 'CelebA images to use, by list_eval_partition.txt',
         'data result', choices=('all', *PARTITIONS)),
    Flag('bbox', False, 'Crop CelebA images by list_bbox_celeba.txt', 'data result'),
    Flag('background', '', 'Color under transparent pixels, such as white or #20a0ff; '
         'default: alpha is dropped, so that they show what lies under them',
         'data result'),
    Flag('max_pixels', MAX_PIXELS, 'Pixels of an image file, at most', 'data result',
         least=1),
    Flag('num_workers', min(4, usable_cores()), 'Processes that decode images ahead of '
         'training; 0 decodes in the main process', least=0),
    Flag('cache', False, 'Keep decoded images in a file, for later epochs and runs',
         'data local'),
)
