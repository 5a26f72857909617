"""Reads pickles of NumPy arrays and plain containers, and runs nothing.

A pickle is a program: plain unpickling imports and calls whatever the file names. Three rules make it data again:

1. Only the names in `_GLOBALS` are known. Any other is refused before anything is imported.
2. An allowed name gives a plain string or a `_Global`, never a class or a function: a pickle can also set attributes on
   what it is given.
3. NumPy's own `__setstate__` methods trust the flags, offsets and lengths that the file states, and its `scalar`
   unpickles again. Dtypes are therefore stand-ins, and arrays are built by NumPy's checked public functions.

What was read may still be a bomb: lists that hold one list ten times, which holds one list ten times, and so on.
Whoever walks through it would never end, so that its size, written out, is compared with that of the file.
"""

import collections
import pickle
import re

import numpy as np

_MOST_SHARING = 64


def read_pickle(path):
    """Reads a pickle that holds NumPy arrays and plain containers.

    Args:
        path: The file. Files of Python 2 are read too, their byte strings as Latin-1.

    Returns:
        The stored object. Its arrays are instances of a subclass of `numpy.ndarray`; `numpy.asarray` makes them
        ordinary. They are read-only, because they are views of the bytes that were read, so that memory holds the file
        once; small arrays, Python 2's and those in the other byte order are copies. A `defaultdict` becomes a `dict`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, or names anything besides NumPy arrays and plain containers.

    Example:
        >>> rows = read_pickle("dev.pkl")  # doctest: +SKIP
    """
    with open(path, "rb") as file:
        return load_pickle(file, path)


def load_pickle(file, path, extra_globals=None, persistent_load=None):
    """Reads one pickle from an open file, as `read_pickle` does, and leaves the file behind its last byte.

    Args:
        file: A binary file, open for reading.
        path: What error messages call the file.
        extra_globals: Dict of further allowed names, `"module.name"` -> a function that builds the value from outside
            data, or a plain value that stands for the name.
        persistent_load: Function that gives the object for a persistent id. Without it such ids are refused.

    Returns:
        The stored object.

    Raises:
        ValueError: The file is damaged, or names anything that is not allowed.
    """
    extra_globals = {
        name: _Global(value) if callable(value) else value for name, value in (extra_globals or {}).items()
    }
    try:
        value = _Unpickler(file, {**_GLOBALS, **extra_globals}, persistent_load).load()
        size = _written_out(value) if persistent_load is None else 0  # Tensors lie outside of the pickle.
        if size > _MOST_SHARING * max(file.tell(), 2**20):
            raise pickle.UnpicklingError(f"its containers hold one another so often that they have {size:.1e} items")
        return value
    except Exception as error:  # Damaged bytes can fail as anything; all of it means the same to the reader.
        position = file.tell()  # Bytes that were used for certain; the unpickler reads ahead.
        raise ValueError(
            f"Cannot read `{path}`: {str(error) or type(error).__name__}. "
            f"Received: {file.seek(0, 2)} bytes that fail after byte {position}."
        ) from error


def _written_out(value):
    """How many items a value has in all its containers, if each were written wherever it is referred to."""
    sizes, stack = {}, [(value, None)]
    while stack:
        item, parts = stack.pop()
        if parts is not None:
            sizes[id(item)] = _length(item) + sum(sizes[id(part)] for part in parts)
        elif id(item) not in sizes:
            sizes[id(item)] = None  # until its parts are known
            parts = _parts(item)
            if any(sizes.get(id(part), 0) is None for part in parts):
                raise pickle.UnpicklingError("it holds a container that holds itself")
            stack.append((item, parts))
            stack += [(part, None) for part in parts if id(part) not in sizes]
    return sizes[id(value)]


def _length(value):
    return value.size if isinstance(value, np.ndarray) else len(value) if isinstance(value, dict | list | tuple) else 1


def _parts(value):
    """The containers among the items of a value, as often as it holds them."""
    if isinstance(value, dict):
        items = list(value.values())  # Keys can be hashed, and hold no more than the file does.
    elif isinstance(value, np.ndarray):
        items = value.ravel().tolist() if value.dtype.hasobject else []
    else:
        items = value if isinstance(value, list | tuple) else []
    kinds = {kind for kind in set(map(type, items)) if issubclass(kind, dict | list | np.ndarray | tuple)}
    return [item for item in items if type(item) in kinds] if kinds else []


class _Unpickler(pickle.Unpickler):
    def __init__(self, file, allowed, persistent_load):
        super().__init__(file, encoding="latin1")
        self._allowed = allowed
        self._persistent_load = persistent_load

    def find_class(self, module, name):
        full_name = f"{module}.{name}"
        if full_name not in self._allowed:
            raise pickle.UnpicklingError(
                f"it asks for `{full_name}`. A pickle is a program, and this one has not been executed: only NumPy "
                "arrays, plain containers (dict, list, tuple, set), strings, bytes and numbers are read, and tensors "
                "from PyTorch files"
            )
        return self._allowed[full_name]

    def persistent_load(self, pid):
        if self._persistent_load is None:
            raise pickle.UnpicklingError("it refers to an object outside the file")
        return self._persistent_load(pid)


class _Global:
    """What the pickle gets for an allowed name: it can be called, and neither subclassed nor changed."""

    __slots__ = ("_build",)

    def __init__(self, build):
        self._build = build

    def __call__(self, *args):
        return self._build(*args)

    def __setstate__(self, state):
        raise pickle.UnpicklingError("it changes a function that it was given")


class _Dtype:
    """Stands for a `numpy.dtype`, whose own `__setstate__` would take flags and offsets on trust."""

    __slots__ = ("value",)

    def __init__(self, code, align=False, copy=True):
        if not re.fullmatch(r"[biufcSUO]\d{1,9}", code):
            raise pickle.UnpicklingError(f"it holds an array of dtype {code!r}, which is not read")
        self.value = np.dtype(code)

    def __setstate__(self, state):
        _version, byteorder, *structure = state
        if structure[:3] != [None, None, None]:
            raise pickle.UnpicklingError("it holds a structured array, which is not read")
        self.value = self.value.newbyteorder(byteorder)


class _Array(np.ndarray):
    """An array that a pickle fills after it was made."""

    def __setstate__(self, state):
        _version, shape, dtype, is_fortran, data = state
        data = _encode(data)
        array = _build_array(data, dtype, shape, "F" if is_fortran else "C")
        if array.dtype.hasobject:
            checked = array.__reduce__()[2]
        else:  # NumPy keeps bytes of this size that are in native order, and copies others.
            checked = (1, array.shape, array.dtype, array.flags.fnc, bytes(data))
        super().__setstate__(checked)
        self.flags.writeable = False


def _build_array(data, dtype, shape, order, axis_order=None):
    """Checked equivalent of `numpy._core.numeric._frombuffer`, for object arrays too."""
    if type(dtype) is not _Dtype:
        raise pickle.UnpicklingError("it builds an array without a dtype")
    if dtype.value.hasobject:
        if type(data) is not list:
            raise pickle.UnpicklingError("it builds an object array from something other than a list")
        array = np.fromiter(data, dtype=object, count=len(data))
        order = "C"  # So they are listed, whatever the file says of the array.
    else:
        data = _encode(data)
        if type(data) not in (bytes, bytearray):
            raise pickle.UnpicklingError("it builds an array from something other than bytes")
        array = np.frombuffer(data, dtype.value)
    array.flags.writeable = False  # The bytes may be other objects' too.
    if axis_order is None:
        return array.reshape(shape, order=order)
    return array.reshape(shape).transpose(axis_order)


def _encode(data):
    """Bytes from the text as which Python 2 stores them; anything else as it is."""
    return data.encode("latin1") if type(data) is str else data


def _build_scalar(dtype, data):
    return _build_array(data, dtype, (), "C")[()]


def _build_bytes(text="", encoding="latin1"):
    """Bytes, which protocols 0 to 2 store as text."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"it stores bytes in the encoding {encoding!r}")
    return text.encode("latin1")


_NUMPY_FUNCTIONS = {
    "multiarray._reconstruct": _Global(lambda *_: _Array(0)),
    "multiarray.scalar": _Global(_build_scalar),
    "numeric._frombuffer": _Global(_build_array),
}
_BUILTINS = {
    "bytes": _Global(_build_bytes),
    "set": _Global(lambda items=(): set(items)),
    **{name: name for name in ("dict", "float", "int", "list")},  # Factories of a `defaultdict`: never called.
}
_GLOBALS = {
    "_codecs.encode": _Global(_build_bytes),
    "collections.OrderedDict": _Global(collections.OrderedDict),
    "collections.defaultdict": _Global(lambda *_: {}),
    "numpy.dtype": _Global(_Dtype),
    "numpy.ndarray": "numpy.ndarray",
    **{f"{core}.{name}": value for core in ("numpy.core", "numpy._core") for name, value in _NUMPY_FUNCTIONS.items()},
    **{f"{module}.{name}": value for module in ("builtins", "__builtin__") for name, value in _BUILTINS.items()},
}
