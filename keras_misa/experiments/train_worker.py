"""One training in a process of its own: `python -m keras_misa.experiments.train_worker`, told by a line of JSON."""

import json
import signal
import sys


def main():
    """Train as the line says; the exit status is 0 if the run is finished."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    settings = json.loads(sys.stdin.buffer.readline())
    from keras_misa._processes import end_with_parent
    from keras_misa.cli import prepare_libraries

    end_with_parent()
    prepare_libraries()
    from keras_misa.experiments.train import train

    try:
        train(**settings, quiet=True)
    except (ValueError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
