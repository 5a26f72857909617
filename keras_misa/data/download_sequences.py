"""The public copies of the computational sequences."""

import http.client
import json
import pathlib
import urllib.request

from keras_misa._files import atomic_path, describe_files, read_json, write_text

BASE = "http://immortal.multicomp.cs.cmu.edu"
RECORD = "downloads.json"
TIMEOUT = 60  # seconds without a byte
FILES = {
    "cmu_mosi": {
        "words": "CMU-MOSI/language/CMU_MOSI_TimestampedWords.csd",
        "visual": "CMU-MOSI/visual/CMU_MOSI_Visual_Facet_41.csd",
        "acoustic": "CMU-MOSI/acoustic/CMU_MOSI_COVAREP.csd",
        "labels": "CMU-MOSI/labels/CMU_MOSI_Opinion_Labels.csd",
    },
    "cmu_mosei": {
        "words": "CMU-MOSEI/language/CMU_MOSEI_TimestampedWords.csd",
        "visual": "CMU-MOSEI/visual/CMU_MOSEI_VisualFacet42.csd",
        "acoustic": "CMU-MOSEI/acoustic/CMU_MOSEI_COVAREP.csd",
        "labels": "CMU-MOSEI/labels/CMU_MOSEI_Labels.csd",
    },
}


def download_sequences(name, folder, base_url=BASE, progress=None):
    """Download the four public `.csd` files of a dataset. The server is often unreachable.

    Size and SHA-256 of each file are recorded in the folder (`downloads.json`) when it is first downloaded; a file that
    is there already, and is the one that was recorded, is not downloaded again.

    Args:
        name: `"cmu_mosi"` or `"cmu_mosei"`.
        folder: where to put them.
        base_url: the server.
        progress: function of a file's name, bytes so far and bytes in all (`None` if unknown); called now and then.

    Returns:
        List of the paths.

    Raises:
        ValueError: If there is no such dataset, or a file is not the one that was recorded.
        OSError: If a download fails; the message says which file to place where by hand.

    Example:
        ```python
        keras_misa.data.download_sequences("cmu_mosi", "sequences")
        ```
    """
    if name not in FILES:
        raise ValueError(f"Public addresses are known of {sorted(FILES)}. Received: name={name!r}")
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    record = read_json(folder / RECORD) if (folder / RECORD).exists() else {}
    paths = []
    for role, address in FILES[name].items():
        url = f"{base_url}/{address}"
        path = folder / address.rsplit("/", 1)[1]
        paths.append(path)
        if path.exists() and path.name in record:
            _check(path, record[path.name])
            continue
        if not path.exists():
            _fetch(url, path, role, progress)
        known = describe_files({role: path})[path.name]
        if path.name in record:
            _check(path, record[path.name])
        record[path.name] = {"url": url, "size": known["size"], "sha256": known["sha256"]}
        write_text(folder / RECORD, json.dumps(record, indent=2) + "\n")
    return paths


def _check(path, recorded):
    found = describe_files({"": path})[path.name]
    if found["sha256"] != recorded["sha256"]:
        raise ValueError(
            f"`{path}`: expected the file that was recorded in {RECORD}, {recorded['size']} bytes of SHA-256 "
            f"{recorded['sha256']}. Received: {found['size']} bytes of {found['sha256']}. Remove the file to download "
            "it again, or its entry to accept it."
        )


def _fetch(url, path, role, progress):
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as response, atomic_path(path) as temporary:
            length = response.headers.get("Content-Length")
            total = int(length) if length else None
            with open(temporary, "wb") as file:
                while block := response.read(2**20):
                    file.write(block)
                    if progress:
                        progress(path.name, file.tell(), total)
                if total is not None and file.tell() != total:
                    raise http.client.IncompleteRead(b"", total - file.tell())
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise OSError(
            f"Cannot download {url}: {reason}. If you hold the file ({role}) or find it elsewhere, place it as "
            f"`{path}`."
        ) from error
