"""Reads PyTorch files (`torch.save`) without PyTorch, in the legacy and in the zip format."""

import io
import os
import typing
import zipfile
import zlib

import numpy as np

from keras_misa.data._restricted_unpickler import load_pickle

_LEGACY_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C

# Types of storages and of tensors, as PyTorch names them -> their NumPy codes.
_CODES = {
    "torch.DoubleStorage": "f8",
    "torch.FloatStorage": "f4",
    "torch.HalfStorage": "f2",
    "torch.LongStorage": "i8",
    "torch.IntStorage": "i4",
    "torch.ShortStorage": "i2",
    "torch.CharStorage": "i1",
    "torch.ByteStorage": "u1",
    "torch.BoolStorage": "b1",
    "torch.storage.UntypedStorage": "u1",
    "torch.uint16": "u2",
    "torch.uint32": "u4",
    "torch.uint64": "u8",
}


def load(path, extra_globals=()):
    """Reads the object that is stored in a PyTorch file; tensors become NumPy arrays.

    Tensors of float16, float32, float64, bool and integers are read, whatever device they were on. Views stay views:
    tensors that shared memory in PyTorch share it here.

    Args:
        path: The file, in the legacy format or in the zip format.
        extra_globals: Further names (`"module.name"`) that the file may mention. Nothing is imported: each becomes the
            string that it is.

    Returns:
        The stored object, of NumPy arrays, plain containers, strings and numbers.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, is no PyTorch file, or names anything that is not allowed.

    Example:
        >>> state_dict = load("model.pt")  # doctest: +SKIP
    """
    with open(path, "rb") as file:
        is_zip = file.read(4) == b"PK\x03\x04"
        file.seek(0)
        return (_load_zip if is_zip else _load_legacy)(file, path, extra_globals)


def _load_legacy(file, path, extra_globals):
    """Four pickles (magic number, version, system, the object), then the storages: their keys, counts and bytes."""
    magic_number = load_pickle(file, path)
    if type(magic_number) is not int or magic_number != _LEGACY_MAGIC_NUMBER:
        raise ValueError(f"`{path}` is not a PyTorch file. Received: a pickle that starts with another object.")
    for _ in ("version", "system"):
        load_pickle(file, path)
    reader = _TensorReader(os.path.getsize(path), "<")  # The legacy format is always little-endian.
    value = reader.load(file, path, extra_globals)
    keys = load_pickle(file, path)
    if keys != sorted(reader.storages):
        raise ValueError(
            f"`{path}` does not store the tensors that it describes: expected the storages {sorted(reader.storages)}. "
            f"Received: {keys}"
        )
    for key in keys:
        storage = reader.storages[key]
        count = int.from_bytes(file.read(8), "little")
        if count * storage.dtype.itemsize != storage.memory.size:
            raise ValueError(
                f"`{path}` is damaged: expected {storage.memory.size} bytes in storage {key!r}. "
                f"Received: {count} numbers of {storage.dtype.itemsize} bytes"
            )
        storage.fill(file.read(storage.memory.size), key, path)
    return value


def _load_zip(file, path, extra_globals):
    """A zip file of `<root>/data.pkl`, one `<root>/data/<key>` for each storage, and `<root>/byteorder`."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            roots = [name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl")]
            if len(roots) != 1:
                raise ValueError(f"`{path}` is not a PyTorch file: expected one `data.pkl`. Received: {names[:10]}")
            root = roots[0]
            is_big = f"{root}byteorder" in names and archive.read(f"{root}byteorder") == b"big"
            reader = _TensorReader(os.path.getsize(path), ">" if is_big else "<")
            value = reader.load(io.BytesIO(archive.read(f"{root}data.pkl")), f"{path}/{root}data.pkl", extra_globals)
            for key, storage in reader.storages.items():
                storage.fill(archive.read(f"{root}data/{key}"), key, path)
            return value
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, RuntimeError) as error:
        raise ValueError(f"`{path}` is a damaged zip file. Received: {error}") from error


class _Storage(typing.NamedTuple):
    """The memory behind one or more tensors; its bytes are known only after the tensors were described."""

    dtype: np.dtype
    memory: np.ndarray

    def fill(self, data, key, path):
        if len(data) != self.memory.size:
            raise ValueError(
                f"`{path}` is damaged: expected {self.memory.size} bytes in storage {key!r}. Received: {len(data)}"
            )
        self.memory[:] = np.frombuffer(data, np.uint8)


class _TensorReader:
    """Unpickles an object in which tensors are views of storages, and remembers the storages.

    Args:
        max_bytes: Size of the file; no storage is larger.
        byteorder: `"<"` or `">"`.
    """

    def __init__(self, max_bytes, byteorder):
        self._max_bytes = max_bytes
        self._byteorder = byteorder
        self.storages = {}

    def load(self, file, path, extra_globals):
        names = {
            "torch.Size": tuple,
            "torch._utils._rebuild_parameter": lambda data, *_: data,
            "torch._utils._rebuild_tensor": self._tensor,
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch._utils._rebuild_tensor_v3": self._typed_tensor,
        }
        return load_pickle(file, path, {**{name: name for name in (*_CODES, *extra_globals)}, **names}, self._storage)

    def _dtype(self, name):
        return np.dtype(_CODES[name]).newbyteorder(self._byteorder)

    def _storage(self, persistent_id):
        kind, dtype_name, key, _device, count, *view = persistent_id
        if kind != "storage" or view not in ([], [None]) or type(key) is not str:
            raise ValueError(f"it refers to something other than a whole storage: {persistent_id}")
        if key not in self.storages:
            dtype = self._dtype(dtype_name)
            if type(count) is not int or not 0 <= count * dtype.itemsize <= self._max_bytes:
                raise ValueError(f"it describes a storage of {count!r} numbers, which the file cannot hold")
            self.storages[key] = _Storage(dtype, np.zeros(count * dtype.itemsize, np.uint8))
        return self.storages[key]

    def _tensor(self, storage, offset, size, stride, *_):
        return self._view(storage, storage.dtype, offset, size, stride)

    def _typed_tensor(self, storage, offset, size, stride, _requires_grad, _hooks, dtype_name, *_):
        return self._view(storage, self._dtype(dtype_name), offset, size, stride)

    def _view(self, storage, dtype, offset, size, stride):
        numbers = (offset, *size, *stride)
        if type(storage) is not _Storage or not all(type(number) is int and number >= 0 for number in numbers):
            raise ValueError(f"it describes a tensor of size {size} and stride {stride} at {offset}")
        # Checked here in Python's exact integers; NumPy's own check can overflow.
        end = offset + 1 + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
        if 0 not in size and end * dtype.itemsize > storage.memory.size:
            raise ValueError(f"it describes a tensor of size {size} and stride {stride} that leaves its storage")
        strides = [step * dtype.itemsize for step in stride]
        return np.ndarray(size, dtype, storage.memory, offset * dtype.itemsize, strides)
