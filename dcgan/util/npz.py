"""Read and write .npz files, also of arrays that do not fit into memory."""

import contextlib
import math
import zipfile
from collections.abc import Callable, Iterator

import numpy as np

from dcgan.util.errors import UserError
from dcgan.util.files import FREE_SPACE, atomic_path, opening, write_errors, zip_members


def write_arrays(path: str, arrays: dict[str, np.ndarray | float]) -> None:
    """Write arrays atomically as an .npz file."""
    with atomic_path(path) as temporary, open(temporary, 'wb') as file:
        np.savez(file, **arrays)


def read_arrays(path: str, shapes: dict, *how: str) -> dict[str, np.ndarray]:
    """Read those arrays of an .npz file that are in `shapes`, {name: shape}.

    None in a shape is any size but 0. Raises UserError, by `how` see `opening`, unless
    they have these shapes and finite numbers.
    """
    arrays = {}
    with opening(path, *how) as file, zipfile.ZipFile(file) as archive:
        for member in zip_members(archive, '.npy'):
            name = member.filename[:-4]
            if name not in shapes:
                continue
            with archive.open(member) as content:
                np.lib.format.read_magic(content)
                shape, _, dtype = np.lib.format.read_array_header_1_0(content)
                fits = len(shape) == len(shapes[name]) and dtype.kind in 'fiu'
                fits &= all(n and m in (n, None) for n, m in zip(shape, shapes[name]))
                if not fits or math.prod(shape) * dtype.itemsize > member.file_size:
                    raise ValueError(f'{name} has shape {shape} of {dtype}')
                content.seek(0)
                arrays[name] = np.lib.format.read_array(content)
            if not np.isfinite(arrays[name]).all():
                raise ValueError(f'{name} has to be finite numbers')
    return arrays


def read_cached(path: str, shapes: dict) -> dict[str, np.ndarray] | None:
    """All arrays in `shapes`, see read_arrays; None if there is no such file."""
    with contextlib.suppress(UserError):
        arrays = read_arrays(path, shapes)
        return arrays if len(arrays) == len(shapes) else None
    return None


@contextlib.contextmanager
def npz_file(path: str | None) -> Iterator[Callable]:
    """Write an .npz file atomically, row by row. Raises UserError if that fails.

    Yields `add_array`. In a block `with add_array(name, shape, dtype) as write`,
    write(rows) appends rows to that array. If `path` is None, nothing is written.
    """
    if path is None:
        yield lambda name, shape, dtype: contextlib.nullcontext(lambda rows: None)
        return

    @contextlib.contextmanager
    def add_array(name, shape, dtype):
        with archive.open(f'{name}.npy', 'w', force_zip64=True) as member:
            descr = np.lib.format.dtype_to_descr(np.dtype(dtype))
            header = {'descr': descr, 'fortran_order': False, 'shape': shape}
            np.lib.format.write_array_header_1_0(member, header)
            yield lambda rows: member.write(np.ascontiguousarray(rows, dtype).data)

    with (
        write_errors(path, advice=FREE_SPACE),
        atomic_path(path) as temporary,
        zipfile.ZipFile(temporary, 'w') as archive,
    ):
        yield add_array
