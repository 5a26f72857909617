"""Datasets by name: found, or built from files."""

import contextlib
import dataclasses
import functools
import importlib
import importlib.util
import io
import logging
import pathlib
import re

_logger = logging.getLogger(__name__)


def prepare_dataset(name, data_dir=None, manual_dir=None, num_workers=1):
    """Find a TFDS dataset, building it first if need be.

    A dataset made from your files remembers what they were. If `manual_dir` holds other files than it was made from, it
    is built again.

    Args:
        name: of a dataset of this package (`"cmu_mosi"`, see `list_datasets`), or of any prepared TFDS dataset with the
            same features. A form may follow, `"cmu_mosi/csd"`, `"synthetic_subspaces/small"`; without one the files in
            `manual_dir` tell, or the only one that is prepared is taken; `"synthetic_subspaces"` is its first form.
        data_dir: where prepared datasets lie; TFDS's default, `~/tensorflow_datasets`, if `None`.
        manual_dir: folder with your files, for the datasets that are made from them.
        num_workers: number of processes that read computational sequences (`.csd`); the dataset is the same. Other
            forms are read by one. With more than 1 a script must call this below `if __name__ == "__main__":`.

    Returns:
        The `tfds.core.DatasetBuilder`, prepared. Its `info.full_name` names the form, too.

    Raises:
        ValueError: If the name is unknown, the form is in doubt, the files are damaged, the dataset is not prepared and
            needs a `manual_dir`, or there is no worker.
        TypeError: If `num_workers` is no whole number.
        ChildProcessError: If a worker has died.

    Example:
        ```python
        builder = keras_misa.data.prepare_dataset("cmu_mosi", manual_dir="splits")
        ```
    """
    import tensorflow_datasets as tfds

    if not re.fullmatch(r"\w+(/[\w.-]+)?", name):
        raise ValueError(f"The name of a dataset is a plain word, or word/form. Received: name={name!r}")
    if not isinstance(num_workers, int):
        raise TypeError(f"`num_workers` must be a whole number. Received: num_workers={num_workers!r}")
    if num_workers < 1:
        raise ValueError(f"`num_workers` must be 1 or more. Received: num_workers={num_workers}")
    if manual_dir is not None and not (pathlib.Path(manual_dir).is_dir() and any(pathlib.Path(manual_dir).iterdir())):
        raise ValueError(f"`manual_dir` must be a folder with files in it. Received: manual_dir={str(manual_dir)!r}")
    base, _, form = name.partition("/")
    cls = _package_builder(base)
    if cls and cls.BUILDER_CONFIGS and not hasattr(cls, "configs_for"):  # made from nothing, as in TFDS
        form = form or cls.BUILDER_CONFIGS[0].name
        name = f"{base}/{form}"
    if manual_dir is None or not hasattr(cls, "configs_for"):
        return _find_prepared(base, form, data_dir) or _build_without_files(cls, name, data_dir)
    folder = pathlib.Path(manual_dir)
    builder = cls(config=_choose_config(cls, base, form, folder), data_dir=data_dir)
    if builder.data_path.exists():
        if builder.is_made_from(folder):
            return builder
        _logger.warning("%s: the files in manual_dir are not those that it was prepared from: building it again.", name)
    builder.num_workers = num_workers
    return _prepare(builder, manual_dir=folder, download_mode=tfds.GenerateMode.REUSE_CACHE_IF_EXISTS)


def list_datasets(data_dir=None):
    """The datasets of this package, and which of them are prepared.

    Args:
        data_dir: where prepared datasets lie; TFDS's default if `None`.

    Returns:
        Dict, name → list of the prepared forms as `"name/form"`.

    Example:
        >>> "cmu_mosi" in list_datasets()
        True
    """
    return {name: sorted(_prepared_forms(name, data_dir)) for name in _package_datasets()}


@functools.cache
def _package_datasets():
    folder = pathlib.Path(importlib.import_module("keras_misa.datasets").__file__).parent
    return sorted(path.parent.name for path in folder.glob("*/*_dataset_builder.py"))


def _package_builder(base):
    """The builder's class, `None` for a dataset of others."""
    if base not in _package_datasets():
        return None
    return importlib.import_module(f"keras_misa.datasets.{base}.{base}_dataset_builder").Builder


def _choose_config(cls, base, form, folder):
    """The configuration for a folder's files: the one that is asked for, or the only one that fits."""
    configs = cls.configs_for(folder)
    if form and not cls.BUILDER_CONFIGS:  # a form is no more than the folder's name then
        return next((dataclasses.replace(config, name=form) for config in configs.values()), None)
    if form:
        known = {config.name: config for config in cls.BUILDER_CONFIGS} | configs
        if form not in known:
            raise ValueError(f"{base} has the forms {sorted(known)}. Received: {base}/{form}")
        return known[form]
    if len(configs) == 1:
        return next(iter(configs.values()))
    if configs:
        raise ValueError(
            f"`{folder}` holds more than one form of {base}; name the one that you mean: "
            f"{' or '.join(f'{base}/{name}' for name in configs)} (`--source`). Received: name={base!r}"
        )
    found = sorted(path.name for path in folder.iterdir())
    raise ValueError(
        f"`{folder}` holds none of the files that {base} is made from. {_instructions(cls)} "
        f"Received: {found[:10]}{'…' if len(found) > 10 else ''}"
    )


def data_root(data_dir):
    """Folder of the prepared datasets."""
    import tensorflow_datasets as tfds

    return pathlib.Path(data_dir or tfds.core.constants.DATA_DIR).expanduser()


def _prepared_forms(base, data_dir):
    """Dict, `name` or `name/form` → folder of its newest prepared version."""
    import tensorflow_datasets as tfds

    root = data_root(data_dir)
    versions = {}
    for path in [*root.glob(f"{base}/*/dataset_info.json"), *root.glob(f"{base}/*/*/dataset_info.json")]:
        if tfds.core.Version.is_valid(path.parent.name):  # not one that was interrupted
            form = path.parent.parent.relative_to(root).as_posix()
            versions.setdefault(form, []).append(tfds.core.Version(path.parent.name))
    return {form: root / form / str(max(found)) for form, found in versions.items()}


def _find_prepared(base, form, data_dir):
    import tensorflow_datasets as tfds

    prepared = _prepared_forms(base, data_dir)
    if form:
        prepared = {name: path for name, path in prepared.items() if name == f"{base}/{form}"}
    if len(prepared) > 1:
        raise ValueError(
            f"{base} is prepared in more than one form; name the one that you mean: {' or '.join(sorted(prepared))}. "
            f"Received: name={base!r}"
        )
    return next((tfds.builder_from_directory(path) for path in prepared.values()), None)


def _build_without_files(cls, name, data_dir):
    """Builds a dataset that is made from nothing, or says why it cannot."""
    if cls is None:
        raise ValueError(
            f"There is no dataset of this name, neither in this package ({', '.join(_package_datasets())}) nor "
            f"prepared in data_dir. Received: name={name!r}, data_dir={data_dir}"
        )
    if hasattr(cls, "configs_for"):
        raise ValueError(
            f"The dataset {name!r} is not prepared yet and is made from files that you hold; give their folder as "
            f"`manual_dir` (`--manual-dir`). {_instructions(cls)} Received: manual_dir=None"
        )
    return _prepare(cls(data_dir=data_dir, config=name.partition("/")[2] or None))


def _prepare(builder, **config):
    import tensorflow_datasets as tfds

    with contextlib.redirect_stdout(io.StringIO()):  # TFDS speaks of downloads
        try:
            builder.download_and_prepare(download_config=tfds.download.DownloadConfig(**config))
        except FileExistsError:
            if config or not _is_prepared(builder.data_path):
                raise
            # Another process was faster; what it made is the same.
    return tfds.builder_from_directory(builder.data_path)


def _is_prepared(path):
    import tensorflow_datasets as tfds

    try:
        return bool(tfds.builder_from_directory(path).info.splits)
    except (OSError, ValueError):
        return False


def _instructions(cls):
    return " ".join(cls.MANUAL_DOWNLOAD_INSTRUCTIONS.split())
