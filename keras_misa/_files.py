"""Files that are written whole or not at all, and what files are."""

import contextlib
import csv
import hashlib
import io
import json
import math
import os
import pathlib
import shutil
import tempfile
import zipfile

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


# What NumPy raises when it reads a damaged `.npz` file.
DAMAGED_NPZ = (ValueError, KeyError, TypeError, OSError, EOFError, zipfile.BadZipFile)


@contextlib.contextmanager
def atomic_path(path):
    """A temporary path beside `path`, with its suffix, which takes its place if the block ends well."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    try:
        yield pathlib.Path(temporary)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    finally:
        pathlib.Path(temporary).unlink(missing_ok=True)


def is_number(text):
    """Whether a cell of a text file, string or bytes, is a number; NaN and infinities are."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def remove_temporaries(path):
    """Remove what processes that were killed in `atomic_path(path)` have left; nobody may be in it now.

    Args:
        path: as for `atomic_path`; its name may be a pattern of `glob`.
    """
    path = pathlib.Path(path)
    for temporary in path.parent.glob(f".{path.stem}-{'[a-z0-9_]' * 8}{path.suffix}"):
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def removing_leftovers(folder, pattern):
    """A block that writes into folders of its own in `folder`; if it ends well, those of killed processes are removed.

    Such blocks share a lock on `folder`, which the system takes from a process that dies. When nobody else has it,
    whatever is left of the pattern belongs to nobody. Where folders cannot be locked, everything stays.
    """
    handle = _share(folder)
    try:
        yield
        if handle is not None and _is_alone(handle):
            for path in pathlib.Path(folder).glob(pattern):
                shutil.rmtree(path, ignore_errors=True)
    finally:
        if handle is not None:
            os.close(handle)


@contextlib.contextmanager
def owning(folder):
    """A block that nobody else is in with the same folder, which is made; where folders cannot be locked, any may be.

    Raises:
        BlockingIOError: If another process, or thread, is in it.
    """
    pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
    handle = _open_folder(folder)
    try:
        if handle is not None:
            _own(handle, folder)
        yield
    finally:
        if handle is not None:
            os.close(handle)


def _own(handle, folder):
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BlockingIOError(
            f"{folder} is being written by another process: wait for its end, or choose another folder."
        ) from None
    except OSError:  # no locks on this file system
        pass


def _share(folder):
    """The open folder with a shared lock on it, or `None`."""
    handle = _open_folder(folder)
    if handle is None:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)
    except OSError:
        os.close(handle)
        return None
    return handle


def _open_folder(folder):
    """Its handle, or `None`."""
    if fcntl is None:
        return None
    try:
        return os.open(folder, os.O_RDONLY)
    except OSError:  # It may lie in a cloud.
        return None


def _is_alone(handle):
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def write_text(path, text):
    """Write a text file."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path, value):
    """Write JSON. NaN and infinities, which JSON lacks, become null."""
    write_text(path, json.dumps(_finite(value), indent=2, ensure_ascii=False) + "\n")


def read_json(path):
    """Read JSON, naming the file if it is damaged."""
    try:
        return json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error


def write_csv(path, rows, header=None):
    """Write dicts with equal keys as CSV, the keys of the first as its header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=header or list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def describe_files(files):
    """What the files are, to know them again.

    Args:
        files: dict, name → path of a file, or of a folder whose files are described as one.

    Returns:
        Dict, file name → `sha256`, `size` in bytes, number of `files`, and `modified`, the newest time of change in ns.
    """
    return {path.name: _describe(path) | {"sha256": _sha256(path)} for path in map(pathlib.Path, files.values())}


def are_described(files, description):
    """Whether the files are those that `describe_files` described; contents are read only where times differ."""
    paths = {path.name: path for path in map(pathlib.Path, files.values())}
    return set(paths) == set(description) and all(
        {**description[name], **_describe(path)} == description[name]
        or (_describe(path)["size"] == description[name]["size"] and _sha256(path) == description[name]["sha256"])
        for name, path in paths.items()
    )


def _members(path):
    return sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]


def _describe(path):
    stats = [member.stat() for member in _members(path)]
    return {
        "size": sum(stat.st_size for stat in stats),
        "files": len(stats),
        "modified": max((stat.st_mtime_ns for stat in stats), default=0),
    }


def _sha256(path):
    """Checksum of a file; of a folder, that of the lines `checksum name` of its files."""
    if path.is_dir():
        lines = [f"{_sha256(member)} {member.relative_to(path).as_posix()}\n" for member in _members(path)]
        return hashlib.sha256("".join(lines).encode()).hexdigest()
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _finite(value):
    if isinstance(value, dict):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, pathlib.Path):
        return str(value)
    return value
