"""What is seen and written while a model trains."""

import contextlib
import time

import keras

from keras_misa._files import write_csv

SHORT = {"similarity": "sim", "difference": "diff", "reconstruction": "recon"}
TERMS = ("loss", "task", "similarity", "difference", "reconstruction")


@contextlib.contextmanager
def text_progress(console):
    """A bar for what takes a while before training starts; yields a function of how much is done, and of how much."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("texts through BERT, once"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        bar = bars.add_task("", total=None, visible=False)
        yield lambda done, total: bars.update(bar, completed=done, total=total, visible=True)


class EpochTable(keras.callbacks.Callback):
    """A progress bar within an epoch, one line with every term after it.

    Args:
        console: `rich.console.Console` to print to.
        epochs: the most epochs there can be.
        monitor: name in the logs whose best epochs get a star.
        history: a `HistoryFile`, which knows the epochs before training was interrupted.
    """

    def __init__(self, console, epochs, monitor, history):
        super().__init__()
        self.console = console
        self.epochs = epochs
        self.monitor = monitor
        self.history = history

    def on_train_begin(self, logs=None):
        self.best = min((row[self.monitor] for row in self.history.rows), default=float("inf"))
        terms = [t for t in TERMS if t in ("loss", "task") or t in {p.name for p in self.model.penalties}]
        self.columns = [*terms, *(f"val_{t}" for t in terms)]
        names = [f"{SHORT.get(name, name):>6}" for name in terms]
        width = 7 * len(terms) - 1
        self._print(f"     {'training':^{width}} │ {'validation':^{width}} │", style="dim")
        self._print(f"epoch{' '.join(names)} │ {' '.join(names)} │ time", style="bold")

    def _print(self, line, style=None):
        # Lines stay whole where the terminal is narrow or a file.
        self.console.print(line, style=style, highlight=False, soft_wrap=True)

    def on_epoch_begin(self, epoch, logs=None):
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.start = time.monotonic()
        self.progress = Progress(
            TextColumn(f"epoch {epoch + 1}/{self.epochs}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.3f}"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self.bar = self.progress.add_task("", total=self.params.get("steps"), loss=float("nan"))
        self.progress.start()

    def on_train_batch_end(self, batch, logs=None):
        self.progress.update(self.bar, completed=batch + 1, loss=float(logs["loss"]))

    def on_epoch_end(self, epoch, logs=None):
        self.progress.stop()
        value = logs.get(self.monitor, float("inf"))
        star = "*" if value < self.best else " "
        self.best = min(self.best, value)
        cells = [f"{float(logs[name]):6.3f}" for name in self.columns]
        half = len(cells) // 2
        seconds = time.monotonic() - self.start
        self._print(f"{epoch + 1:>4}{star}{' '.join(cells[:half])} │ {' '.join(cells[half:])} │ {seconds:.1f} s")


class HistoryFile(keras.callbacks.Callback):
    """Keeps `history.csv` complete after every epoch.

    Args:
        path: the file.
    """

    def __init__(self, path):
        super().__init__()
        self.path = path
        self.rows = []

    def on_epoch_end(self, epoch, logs=None):
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        logs = {name: float(value) for name, value in sorted(logs.items())}
        self.rows.append({"epoch": epoch + 1, **logs, "learning_rate": rate})
        write_csv(self.path, self.rows)
