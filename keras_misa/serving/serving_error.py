"""A server that does not answer, or not as expected."""


class ServingError(OSError):
    """A request that has no answer.

    Args:
        words: the whole message.
        target: the server's address.
        model: name of the model.
        signature: what was asked: a signature of the model, `"metadata"` or `"status"`.
        status: name of gRPC's status code, in both transports: `"UNAVAILABLE"`, `"DEADLINE_EXCEEDED"`, `"NOT_FOUND"`, …

    Attributes:
        target: as given.
        model: as given.
        signature: as given.
        status: as given.

    Example:
        ```python
        try:
            answer = client.predict(utterance)
        except keras_misa.serving.ServingError as error:
            print(error.status, error)
        ```
    """

    def __init__(self, words, target, model, signature, status):
        super().__init__(words)
        self.target = target
        self.model = model
        self.signature = signature
        self.status = status

    def __reduce__(self):
        return type(self), (*self.args, self.target, self.model, self.signature, self.status), self.__dict__
