"""A worker of a search on this machine: `python -m keras_misa.tuning.worker FOLDER`."""

import os
import signal
import sys
import threading

from keras_misa._files import read_json


def main(folder):
    """Run trials of the search in `folder` until the chief has no more."""
    threading.Thread(target=_end_with_chief, daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    from keras_misa.cli import prepare_libraries
    from keras_misa.tuning.tune import SEARCH_FILE, tune

    prepare_libraries()
    search = read_json(os.path.join(folder, SEARCH_FILE))
    search.pop("files")
    tune(**search.pop("settings"), **search, output=folder, quiet=True)


def _end_with_chief():
    """A worker whose chief was killed would wait for an hour for its answer; the pipe between them knows at once."""
    sys.stdin.buffer.read()
    os._exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
