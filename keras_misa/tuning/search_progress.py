"""What is seen of a search while it runs."""

import datetime
import time


class SearchProgress:
    """Prints a line for each trial that has ended: its score, the best so far, and the time left.

    Args:
        console: `rich.console.Console` to print to.
        folder: of the trials.
        total: number of trials.
        monitor: name of the objective.
    """

    def __init__(self, console, folder, total, monitor):
        from keras_misa.tuning.trials import ENDED, read_trials

        self._read = lambda: [trial for trial in read_trials(folder) if trial["status"] in ENDED]
        self._failures = 0
        self.console = console
        self.total = total
        self.monitor = monitor
        self._start = time.monotonic()
        self._known = {trial["trial"] for trial in self._read()}
        self._before = len(self._known)
        if self._known:
            console.print(f"{self._before} of {total} trials are done; going on.", highlight=False)

    def update(self):
        """Print what is new.

        Returns:
            Number of trials that have ended.

        Raises:
            ValueError: If trials fail one after another.
        """
        from keras_misa.tuning.oracles import MAX_FAILURES
        from keras_misa.tuning.trials import best_trial

        trials = self._read()
        again = self._known - {trial["trial"] for trial in trials}  # that had failed and are run again
        self._known -= again
        self._before -= len(again)
        best = best_trial(trials)
        for trial in trials:
            if trial["trial"] not in self._known:
                self._known.add(trial["trial"])
                self._print(trial, best)
                self._failures = self._failures + 1 if trial["score"] is None else 0
                if self._failures >= MAX_FAILURES:
                    raise ValueError(
                        f"{self._failures} trials failed one after another, and the search has stopped. Mend what is "
                        "wrong; the same command then runs them again, and a search with other settings needs another "
                        f"folder. Received: {trial['message']}"
                    )
        return len(trials)

    def _print(self, trial, best):
        done = len(self._known)
        width = len(str(self.total))
        left = max(0, self.total - done) * (time.monotonic() - self._start) / (done - self._before)
        values = " ".join(
            f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}"
            for name, value in trial["values"].items()
            if not name.startswith("tuner/")
        )
        result = f"failed: {trial['message']}" if trial["score"] is None else f"{self.monitor} {trial['score']:.4f}"
        so_far = f", best {best['score']:.4f} (trial {best['trial']})" if best else ""
        duration = datetime.timedelta(seconds=round(left))
        self.console.print(
            f"{done:>{width}}/{self.total} trial {trial['trial']}: {result}{so_far}, about {duration} left  {values}",
            highlight=False,
            soft_wrap=True,
            markup=False,
        )
