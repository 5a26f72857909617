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

    Tensors of float16, float32, float64, bool and integers are read, whatever device they were on. The arrays are views
    of the file's memory map: numbers are read from the disk when they are used, and a file larger than memory can be
    read. What is written into an array changes that array and what shares its storage, never the file. Views stay
    views: tensors that shared memory in PyTorch share it here.

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


def _map(path):
    return np.memmap(path, np.uint8, mode="c").view(np.ndarray)


def _load_legacy(file, path, extra_globals):
    """Four pickles (magic number, version, system, the object), then the storages: their keys, counts and bytes.

    The object is unpickled twice: once to know which storages there are, and, once they are found, with them.
    """
    magic_number = load_pickle(file, path)
    if type(magic_number) is not int or magic_number != _LEGACY_MAGIC_NUMBER:
        raise ValueError(f"`{path}` is not a PyTorch file. Received: a pickle that starts with another object.")
    for _ in ("version", "system"):
        load_pickle(file, path)
    start = file.tell()
    size = os.path.getsize(path)
    reader = _TensorReader(size, "<")  # The legacy format is always little-endian.
    reader.load(file, path, extra_globals)
    keys = load_pickle(file, path)
    if keys != sorted(reader.storages):
        raise ValueError(
            f"`{path}` does not store the tensors that it describes: expected the storages {sorted(reader.storages)}. "
            f"Received: {keys}"
        )
    bytes_of_file, position, memories = _map(path), file.tell(), {}
    for key in keys:
        storage = reader.storages[key]
        count = int.from_bytes(bytes_of_file[position : position + 8].tobytes(), "little")
        if count * storage.dtype.itemsize != storage.size:
            raise ValueError(
                f"`{path}` is damaged: expected {storage.size} bytes in storage {key!r}. "
                f"Received: {count} numbers of {storage.dtype.itemsize} bytes"
            )
        memories[key] = bytes_of_file[position + 8 : position + 8 + storage.size]
        position += 8 + storage.size
        _check_size(memories[key], storage, key, path)
    file.seek(start)
    return _TensorReader(size, "<", memories).load(file, path, extra_globals)


def _load_zip(file, path, extra_globals):
    """A zip file of `<root>/data.pkl`, one `<root>/data/<key>` for each storage, and `<root>/byteorder`."""
    try:
        with zipfile.ZipFile(file) as archive:
            entries = {entry.filename: entry for entry in archive.infolist()}
    except (zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError) as error:
        raise ValueError(f"`{path}` is a damaged zip file. Received: {error}") from error
    roots = [name.removesuffix("data.pkl") for name in entries if name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise ValueError(f"`{path}` is not a PyTorch file: expected one `data.pkl`. Received: {list(entries)[:10]}")
    (root,) = roots
    bytes_of_file = _map(path)

    def read(name):
        return _zip_entry(bytes_of_file, entries[name], path)

    is_big = f"{root}byteorder" in entries and read(f"{root}byteorder").tobytes() == b"big"
    prefix = f"{root}data/"
    memories = {name.removeprefix(prefix): read(name) for name in entries if name.startswith(prefix)}
    reader = _TensorReader(bytes_of_file.size, ">" if is_big else "<", memories)
    value = reader.load(io.BytesIO(read(f"{root}data.pkl").tobytes()), f"{path}/{root}data.pkl", extra_globals)
    for key, storage in reader.storages.items():
        _check_size(storage.memory, storage, key, path)
    return value


def _zip_entry(bytes_of_file, entry, path):
    """The bytes of an entry, in place; PyTorch never compresses, and what is not compressed cannot be a bomb."""
    if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
        raise ValueError(
            f"`{path}` is not a file that PyTorch wrote: expected entries that are neither compressed nor encrypted. "
            f"Received: {entry.filename!r}"
        )
    header = bytes_of_file[entry.header_offset : entry.header_offset + 30].tobytes()
    name_length, extra_length = (int.from_bytes(header[i : i + 2], "little") for i in (26, 28))
    start = entry.header_offset + 30 + name_length + extra_length
    data = bytes_of_file[start : start + entry.file_size]
    if not header.startswith(b"PK\x03\x04") or data.size != entry.file_size or zlib.crc32(data) != entry.CRC:
        raise ValueError(f"`{path}` is damaged. Received: {entry.filename!r} with a wrong size or checksum")
    return data


def _check_size(memory, storage, key, path):
    if memory is None or memory.size != storage.size:
        received = "no such storage" if memory is None else memory.size
        raise ValueError(f"`{path}` is damaged: expected {storage.size} bytes in storage {key!r}. Received: {received}")


class _Storage(typing.NamedTuple):
    """What is known of the memory behind one or more tensors: its bytes too, if they were found."""

    dtype: np.dtype
    size: int
    memory: np.ndarray | None


class _TensorReader:
    """Unpickles an object in which tensors are views of storages, and remembers the storages.

    Args:
        max_bytes: Size of the file; no storage is larger.
        byteorder: `"<"` or `">"`.
        memories: Dict of key -> bytes of that storage. Tensors of other storages are `None`.
    """

    def __init__(self, max_bytes, byteorder, memories=None):
        self._max_bytes = max_bytes
        self._byteorder = byteorder
        self._memories = memories or {}
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
            self.storages[key] = _Storage(dtype, count * dtype.itemsize, self._memories.get(key))
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
        if 0 not in size and end * dtype.itemsize > storage.size:
            raise ValueError(f"it describes a tensor of size {size} and stride {stride} that leaves its storage")
        if storage.memory is None or storage.memory.size != storage.size:
            return None
        strides = [step * dtype.itemsize for step in stride]
        return np.ndarray(size, dtype, storage.memory, offset * dtype.itemsize, strides)
