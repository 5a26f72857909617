"""A worker of a search on this machine: `python -m keras_misa.tuning.worker FOLDER`."""

import os
import signal
import sys

from keras_misa._files import read_json
from keras_misa._processes import end_with_parent


def main(folder):
    """Run trials of the search in `folder` until the chief has no more."""
    end_with_parent()  # else it would wait for an hour for its answer
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    from keras_misa.cli import prepare_libraries
    from keras_misa.tuning.tune import SEARCH_FILE, tune

    prepare_libraries()
    search = read_json(os.path.join(folder, SEARCH_FILE))
    search.pop("files")
    tune(**search.pop("settings"), **search, output=folder, quiet=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
