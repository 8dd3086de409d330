"""Read, crop and resize images, and stretch their contrast."""

import errno
import functools
import importlib.util
import warnings
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageColor, ImageOps

from dcgan.util.errors import UserError, short_reason
from dcgan.util.files import open_file

# others that Pillow reads start programs, or are seldom used; JPEG includes MPO
FORMATS = ['JPEG', 'PNG', 'BMP', 'GIF', 'PPM', 'WEBP', 'TIFF', 'JPEG2000']
if importlib.util.find_spec('PIL.AvifImagePlugin'):  # since Pillow 11.3
    FORMATS.append('AVIF')
MAX_PIXELS = 100_000_000  # of an image, without --max_pixels
# disk errors, or a lack of memory or file descriptors: the file itself may be good
SYSTEM_ERRORS = {errno.ENOMEM, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE}
FEW_LEVELS = 64  # below this, rounding to whole numbers would leave too few grays
TRANSPARENT = (
    'images with transparent pixels show what lies under them, as in the original; '
    '--background white lays them on a color'
)


def imread(path: str, grayscale: bool = False) -> np.ndarray:
    """Read an image file: float64 in [0, 255], [h, w, 3] or, in grayscale, [h, w].

    As in the original, color is read as OpenCV does (no alpha, 16 bits cut to 8,
    rotated as EXIF says) and grayscale as SciPy does. UserError if it is not readable.
    """
    return np.asarray(open_image(path, grayscale), np.float64)


def ignore_pillow_warnings() -> None:
    """Hide Pillow's warnings about malformed files, which it can read nevertheless."""
    warnings.filterwarnings('ignore', module='PIL')


def open_image(
    path: str | BinaryIO,
    grayscale: bool = False,
    background: tuple[int, int, int] | None = None,
    notes: set[str] | None = None,
    max_pixels: int | None = None,
) -> Image.Image:
    """Read an image as `imread` does, to a Pillow image of mode RGB or, gray, F.

    `background` is the (red, green, blue) under transparent pixels; None drops alpha.
    Lines for the user on unusual properties are added to `notes`. Raises UserError if
    the file is not a readable image, OSError or MemoryError if the system fails.
    """
    notes = set() if notes is None else notes
    limit = Image.MAX_IMAGE_PIXELS  # Pillow refuses images of twice that size
    most = max_pixels or limit
    try:
        Image.MAX_IMAGE_PIXELS = limit and max(limit, most)
        if not hasattr(path, 'read'):
            open_file(path).close()  # OSError for a pipe, which would wait for ever
        with Image.open(path, formats=FORMATS) as image:
            if most and image.width * image.height > most:
                raise Image.DecompressionBombError
            if image.width >= 1 << 25:  # Pillow would raise MemoryError
                raise ValueError(f'it is {image.width:,} pixels wide')
            if image.mode == 'F' or image.mode.startswith('I'):
                image = to_bytes(image, notes)
            has_metadata = image.format != 'JPEG' or image.info.keys() & {'exif', 'xmp'}
            if has_metadata and not grayscale:
                # skipped for a JPEG without metadata: it is slow even with no effect
                ImageOps.exif_transpose(image, in_place=True)
            image.load()  # before the file is closed
            image = on_background(image, background, notes)
            image = image if image.mode == 'RGB' else image.convert('RGB')
            return image.convert('F') if grayscale else image
    except MemoryError:
        raise
    except Image.DecompressionBombError as error:
        advice = 'scale it down, remove it, or raise --max_pixels'
        raise UserError(f'{path}: larger than {most:,} pixels; {advice}') from error
    except Exception as error:  # Pillow raises nearly anything for a corrupt file
        if getattr(error, 'errno', None) in SYSTEM_ERRORS:
            raise OSError(error.errno, error.strerror, path) from error
        problem = f'not a readable image ({short_reason(error)})'
        raise UserError(f'{path}: {problem}') from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def to_bytes(image: Image.Image, notes: set[str]) -> Image.Image:
    """Convert gray of 16 or 32 bits to 8 bits, by the range of its values.

    Integers keep the upper 8 of the bits that they need; floats from 0 to 255 stay, in
    mode F; a transparent value makes mode LA. ValueError if a value is not finite.
    """
    values = np.asarray(image)
    if not np.isfinite(values).all():
        raise ValueError('it holds values that are not finite')
    low, high = values.min(), values.max()
    is_float = image.mode == 'F'
    # floats that are neither 0 to 1 nor like bytes
    is_odd = is_float and 1 < high < FEW_LEVELS and (values % 1).any()
    if low < 0 or high > (255 if is_float else 65535) or is_odd:
        notes.add('gray images of other ranges are scaled from their own to 8 bits')
        return Image.fromarray(bytescale(values.astype(np.float64)))
    if is_float and high <= 1:
        notes.add('gray images of floats from 0 to 1 are scaled to 8 bits')
        return Image.fromarray(np.rint(values * 255).astype(np.uint8))
    if is_float:
        return image
    bits = next(bits for bits in (8, 10, 12, 14, 16) if high < 2**bits)
    if high and bits < 16:
        notes.add('gray images of 16 or 32 bits are read by the bits that each needs')
    gray = (values >> (bits - 8)).astype(np.uint8)
    transparent = image.info.get('transparency')
    if isinstance(transparent, int):
        gray = np.dstack([gray, (values != transparent) * np.uint8(255)])
    return Image.fromarray(gray)


def on_background(
    image: Image.Image, background: tuple[int, int, int] | None, notes: set[str]
) -> Image.Image:
    """Lay an image that has transparent pixels on a color, or note that it has them."""
    if not image.has_transparency_data or (not background and TRANSPARENT in notes):
        return image
    rgba = image.convert('RGBA')
    if background:
        base = Image.new('RGBA', image.size, background)
        return Image.alpha_composite(base, rgba)
    if rgba.getchannel('A').getextrema()[0] < 255:
        notes.add(TRANSPARENT)
    return image


def parse_color(text: str) -> tuple[int, int, int]:
    """(red, green, blue) of a color, such as white or #20a0ff. UserError if unknown."""
    try:
        return ImageColor.getrgb(text)[:3]
    except ValueError as error:
        advice = 'give one such as white or #20a0ff'
        raise UserError(f'--background {text!r}: not a color; {advice}') from error


def bytescale(x: np.ndarray) -> np.ndarray:
    """Scale to uint8, 0 to 255, as SciPy 1.1 does in the original; a constant to 0."""
    low, high = x.min(), x.max()
    scale = 255.0 / ((high - low) or 1)
    return (((x - low) * scale).clip(0, 255) + 0.5).astype(np.uint8)


@functools.lru_cache(maxsize=4096)
def stretch_table(low, high):
    """`bytescale` of each byte in an image with this range, as 256 bytes."""
    table = np.zeros(256, np.uint8)
    table[low : high + 1] = bytescale(np.arange(low, high + 1.0))
    return table.tobytes()


def stretch_contrast(image: Image.Image) -> Image.Image:
    """`bytescale` for a Pillow image: RGB and L keep their mode, F becomes L.

    A lookup table gives the same bytes as NumPy's float arithmetic, and is faster.
    """
    if image.mode == 'F':
        return Image.fromarray(bytescale(np.asarray(image, np.float64)))
    content = image.tobytes()
    if b'\x00' in content and b'\xff' in content:
        return image  # the full range already
    pixels = np.frombuffer(content, np.uint8)
    table = stretch_table(int(pixels.min()), int(pixels.max()))
    return Image.frombytes(image.mode, image.size, content.translate(table))


def center_slice(size: int, crop: int) -> slice:
    """The `crop` pixels in the center of `size` pixels; at most all of them."""
    crop = min(crop, size)
    start = int(round((size - crop) / 2.0))
    return slice(start, start + crop)


def resize(image: Image.Image, height: int, width: int) -> np.ndarray:
    """Resize a Pillow image with its bilinear filter: uint8 [height, width(, 3)]."""
    return np.asarray(image.resize((width, height), Image.BILINEAR))


def load_image(
    path: str,
    input_height: int,
    input_width: int | None = None,
    resize_height: int = 64,
    resize_width: int = 64,
    crop: bool = True,
    grayscale: bool = False,
    box: Sequence[int] | None = None,
    background: tuple[int, int, int] | None = None,
    notes: set[str] | None = None,
    max_pixels: int = MAX_PIXELS,
    stretch: bool = True,
) -> np.ndarray:
    """Read an image, crop it, stretch its contrast and resize it; sizes are in pixels.

    It is cropped to `box`, (x, y, width, height), or to its center; () means that the
    image has no box, an input_width of None means a square. Without `stretch`, its
    contrast stays. Returns uint8 [resize_height, resize_width, 3] or, with `grayscale`,
    without the 3. Raises UserError for an unreadable image, and for a box that is
    missing or outside it.
    """
    image = open_image(path, grayscale, background, notes, max_pixels)
    if box == ():
        raise UserError(f'{path}: it is not in the list of bounding boxes')
    if box:
        x, y, width, height = box
        right, lower = min(x + width, image.width), min(y + height, image.height)
        x, y = max(x, 0), max(y, 0)
        if right <= x or lower <= y:
            raise UserError(f'{path}: its bounding box {box} lies outside the image')
        image = image.crop((x, y, right, lower))
    elif crop:
        rows = center_slice(image.height, input_height)
        columns = center_slice(image.width, input_width or input_height)
        image = image.crop((columns.start, rows.start, columns.stop, rows.stop))
    if stretch:
        image = stretch_contrast(image)
    elif image.mode == 'F':
        image = Image.fromarray(np.rint(image).astype(np.uint8))
    return resize(image, resize_height, resize_width)
