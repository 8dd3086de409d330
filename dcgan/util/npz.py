"""Read and write .npz files, also of arrays that do not fit into memory."""

import contextlib
import zipfile
from collections.abc import Callable, Iterator

import numpy as np

from dcgan.util.errors import UserError
from dcgan.util.files import FREE_SPACE, atomic_path, read_errors, write_errors


def write_arrays(path: str, arrays: dict[str, np.ndarray | float]) -> None:
    """Write arrays atomically as an .npz file."""
    with atomic_path(path) as temporary, open(temporary, 'wb') as file:
        np.savez(file, **arrays)


def read_arrays(path: str, names: list[str]) -> dict[str, np.ndarray] | None:
    """The arrays `names` of an .npz file; None if it is missing or incomplete."""
    with contextlib.suppress(UserError), read_errors(path), np.load(path) as file:
        return {name: file[name] for name in names}
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
