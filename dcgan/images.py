"""Images: read, cropped, resized, laid out in grids, written."""

import errno
import functools
import math
import warnings

import numpy as np
from PIL import Image, ImageOps

from dcgan.errors import UserError
from dcgan.files import atomic_path, write_errors

# these say nothing about a file: the disk fails, memory or file descriptors run out
SYSTEM_ERRORS = {errno.ENOMEM, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE}


def imread(path, grayscale=False):
    """Read any picture that Pillow knows: float64 in 0..255, [h, w, 3]; grey: [h, w].

    Colour follows OpenCV, with which the original read: three channels whatever the
    file holds (alpha dropped, palettes and grey expanded, 16 bits cut to 8), turned
    upright as EXIF says. Grey follows SciPy: Pillow's mode F. Raises UserError.
    """
    return np.asarray(open_image(path, grayscale), np.float64)


def ignore_pillow_warnings():
    """Pillow warns of malformed files that it reads all the same."""
    warnings.filterwarnings('ignore', module='PIL')


def open_image(path, grayscale=False):
    """What `imread` reads, as a Pillow picture of mode RGB or, grey, F."""
    try:
        with Image.open(path) as image:
            limit = Image.MAX_IMAGE_PIXELS  # of which Pillow itself only warns at first
            if limit and image.width * image.height > limit:
                raise UserError(f'{path}: larger than {limit} pixels, likely a bomb')
            if image.mode == 'I' and image.format != 'PNG':
                raise UserError(
                    f'{path}: 32-bit greys cannot be used; convert it to 8 or 16 bits'
                )
            if image.mode.startswith('I'):  # 16 bits, which Pillow would clip at 255
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            if grayscale:
                return image.convert('RGB').convert('F')
            if image.format != 'JPEG' or image.info.keys() & {'exif', 'xmp'}:
                ImageOps.exif_transpose(image, in_place=True)  # slow even for nothing
            image.load()  # before the file is closed
            return image if image.mode == 'RGB' else image.convert('RGB')
    except (UserError, MemoryError):
        raise
    except Exception as error:  # on a corrupt file Pillow may raise nearly anything
        if getattr(error, 'errno', None) in SYSTEM_ERRORS:
            raise OSError(
                error.errno, error.strerror, path
            ) from error  # it may be good
        raise UserError(f'{path}: not a picture that can be read ({error})') from error


def bytescale(x):
    """Stretch an array of any shape to uint8, its least value 0 and its greatest 255.

    SciPy 1.1's function of that name, which stood inside `imresize` and `imsave`: the
    original stretches every crop before resizing and every sheet before saving.
    A constant array becomes 0.
    """
    low, high = x.min(), x.max()
    scale = 255.0 / ((high - low) or 1)
    return (((x - low) * scale).clip(0, 255) + 0.5).astype(np.uint8)


@functools.lru_cache(maxsize=4096)
def stretch_table(low, high):
    """What `bytescale` makes of each of the 256 bytes, these being the extremes."""
    table = np.zeros(256, np.uint8)
    table[low : high + 1] = bytescale(np.arange(low, high + 1.0))
    return table.tobytes()


def stretch_contrast(image):
    """`bytescale` of a Pillow picture: RGB stays RGB, F becomes L.

    Bytes go through a table, which gives the same and spares NumPy's floats.
    """
    if image.mode == 'F':
        return Image.fromarray(bytescale(np.asarray(image, np.float64)))
    content = image.tobytes()
    if b'\x00' in content and b'\xff' in content:
        return image  # it would stay as it is
    pixels = np.frombuffer(content, np.uint8)
    table = stretch_table(int(pixels.min()), int(pixels.max()))
    return Image.frombytes(image.mode, image.size, content.translate(table))


def center_crop(image, crop_h, crop_w=None):
    """The middle crop_h x crop_w (None: square) of a Pillow picture, at most all."""
    w, h = image.size
    crop_h, crop_w = min(crop_h, h), min(crop_w or crop_h, w)
    j, i = int(round((h - crop_h) / 2.0)), int(round((w - crop_w) / 2.0))
    return image.crop((i, j, i + crop_w, j + crop_h))


def box_crop(image, box):
    """The part of a Pillow picture in a box (x, y, width, height), or None."""
    x, y, width, height = box
    left, upper = max(x, 0), max(y, 0)
    right, lower = min(x + width, image.width), min(y + height, image.height)
    if right <= left or lower <= upper:
        return None
    return image.crop((left, upper, right, lower))


def resize(image, height, width):
    """A Pillow picture -> uint8 [height, width(, 3)], by Pillow's bilinear filter."""
    return np.asarray(image.resize((width, height), Image.BILINEAR))


def load_image(
    path,
    input_height,
    input_width=None,
    resize_height=64,
    resize_width=64,
    crop=True,
    grayscale=False,
    box=None,
):
    """Read, crop (or not), stretch the contrast and resize, to uint8 [h, w(, 3)].

    box (x, y, width, height), in pixels, is cropped to instead of the centre.
    """
    image = open_image(path, grayscale)
    if box is not None:
        image = box_crop(image, box) if box else None
        if image is None:
            raise UserError(f'{path}: no part of it is in its box {box or "(none)"}')
    elif crop:
        image = center_crop(image, input_height, input_width)
    return resize(stretch_contrast(image), resize_height, resize_width)


def get_image(*args, **kwargs):
    """`load_image`, same arguments, as float64 in [-1, 1], as a network is fed."""
    return load_image(*args, **kwargs) / 127.5 - 1.0


def image_manifold_size(count):
    """Rows and columns of the sheet of training samples: floor and ceil of the root."""
    root = math.sqrt(count)
    return math.floor(root), math.ceil(root)


def inverse_transform(images):
    """[-1, 1] -> [0, 1]."""
    unit = images + 1.0
    unit /= 2.0  # in place, for the sake of many samples
    return unit


def merge(images, size):
    """Lay images [B, h, w, c] out, row by row, on a sheet of size (rows, columns).

    Returns float64 [rows * h, columns * w(, c if not 1)], 0 where no image is. There
    are more rows than asked for if the images need them. Bytes stay bytes.
    """
    count, h, w, c = images.shape
    columns = size[1]
    rows = max(size[0], math.ceil(count / columns))
    kind = np.uint8 if images.dtype == np.uint8 else np.float64
    sheet = np.zeros((rows * h, columns * w, c), kind)
    for index, image in enumerate(images):
        j, i = index // columns * h, index % columns * w
        sheet[j : j + h, i : i + w] = image
    return sheet[..., 0] if c == 1 else sheet


def save_images(images, size, path):
    """Write images [B, h, w, c] in [-1, 1], or uint8, as a sheet of (rows, columns).

    The contrast of the whole sheet is stretched to 0..255, as in the original.
    """
    images = np.asarray(images)
    if images.dtype == np.uint8:
        sheet = stretch_contrast(Image.fromarray(merge(images, size)))
    else:
        sheet = Image.fromarray(bytescale(merge(inverse_transform(images), size)))
    save_image(sheet, path)


def save_image(picture, path):
    """Write a Pillow picture, whole or not at all. Raises UserError."""
    with write_errors(path), atomic_path(path) as temporary:
        picture.save(temporary)


def make_gif(frames, path, duration=2):
    """Write frames, each [h, w], [h, w, 1] or [h, w, 3] in 0 to 255, as an animation.

    It loops for ever, once in `duration` seconds or, as viewers want 20 ms a frame, in
    more if there are above 50 frames a second.
    """
    pictures = (Image.fromarray(np.squeeze(f).astype(np.uint8)) for f in frames)
    save_gif(pictures, path, 1000 * duration // len(frames))


def save_gif(pictures, path, milliseconds):
    """Write an iterable of Pillow pictures as an animation that loops for ever."""
    pictures = iter(pictures)
    with write_errors(path), atomic_path(path) as temporary:
        next(pictures).save(
            temporary,
            'GIF',
            save_all=True,
            append_images=pictures,
            duration=max(20, milliseconds),  # of each frame; viewers want 20
            loop=0,
        )
