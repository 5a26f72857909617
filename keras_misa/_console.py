"""Where the commands print."""

import os

PIPE_WIDTH = 200  # columns


def make_console(quiet=False):
    """A `rich.console.Console`, wide enough for our tables where the output is a file or a pipe.

    (There `rich` takes 80 columns, and cuts words. The variable `COLUMNS` is heeded, as by all programs.)
    """
    from rich.console import Console

    console = Console(quiet=quiet)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(quiet=quiet, width=PIPE_WIDTH)
    return console
