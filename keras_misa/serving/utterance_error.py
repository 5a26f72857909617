"""Utterances that cannot be used."""


class UtteranceError(ValueError):
    """Some of the utterances cannot be used, whether the client found that or the model.

    Args:
        problems: dict, place of the utterance among those given → what is wrong with it.

    Attributes:
        problems: as given.

    Example:
        >>> print(UtteranceError({3: "visual: NaN or infinite; expected finite numbers"}))
        Utterance 3 cannot be used: visual: NaN or infinite; expected finite numbers
    """

    def __init__(self, problems):
        self.problems = dict(problems)
        (place, problem), *others = self.problems.items()
        more = f" (and {len(others)} other{'s' * (len(others) > 1)}, see `problems`)" if others else ""
        super().__init__(f"Utterance {place} cannot be used: {problem}{more}")

    def __reduce__(self):
        return type(self), (self.problems,), self.__dict__
