"""What both transports have in common: how they fail, and what is tried again."""

import random
import time

FIRST_PAUSE = 0.1  # seconds
LONGEST_PAUSE = 2.0
FOREIGN = (AttributeError, IndexError, KeyError, TypeError, ValueError)  # of reading an answer of something else
SHOWN = 200  # characters of such an answer, in a message


class Failure(Exception):
    """An attempt that failed.

    Args:
        status: name of gRPC's status code.
        words: what the server, or the library, said.
        may_pass: whether the same may succeed a little later.
        pause: seconds that the server wants to be left alone for.
    """

    def __init__(self, status, words, may_pass=False, pause=0.0):
        super().__init__(words)
        self.status = status
        self.words = words
        self.may_pass = may_pass
        self.pause = pause


class Attempts:
    """Attempts with pauses between them that double, with jitter, within one deadline.

    Args:
        timeout: seconds for all attempts together.
        retries: the most attempts after the first.
        wait_for_ready: whether attempts that find no server do not count.
    """

    def __init__(self, timeout, retries, wait_for_ready=False):
        self.retries = retries
        self.wait_for_ready = wait_for_ready
        self.count = 0
        self._end = time.monotonic() + timeout

    def run(self, call, passing=()):
        """What `call(seconds left)` returns, in the first attempt that succeeds.

        Args:
            call: function that raises `Failure`.
            passing: statuses that may pass besides those that always do.

        Raises:
            Failure: The last one.
        """
        while True:
            self.count += 1
            try:
                return call(max(self._end - time.monotonic(), 1e-3))
            except Failure as failure:
                pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (self.count - 1)) * random.uniform(0.5, 1)
                pause = max(pause, failure.pause)
                counts = self.count <= self.retries or (self.wait_for_ready and failure.status == "UNAVAILABLE")
                may_pass = failure.may_pass or failure.status in passing
                if not (may_pass and counts) or time.monotonic() + pause >= self._end:
                    raise
                time.sleep(pause)
