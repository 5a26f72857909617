"""A client of TensorFlow Serving for the models that `keras-misa export` writes."""

import collections.abc
import itertools
import time

from keras_misa.serving.request_encoding import RequestEncoding
from keras_misa.serving.served_model import ENCODED, read_answers, read_modalities, read_signatures
from keras_misa.serving.serving_error import ServingError
from keras_misa.serving.transport import FOREIGN, SHOWN, Attempts, Failure
from keras_misa.serving.utterance_error import UtteranceError

TRANSPORTS = ("grpc", "rest")
# What this client sends is well-formed. A server that gathers requests answers all of a batch so if one, of somebody
# else, is not.
OF_A_BATCH = ("INVALID_ARGUMENT", "INTERNAL")
POLL = 0.2  # seconds


class ServingClient:
    """Asks a model that TensorFlow Serving has in service, by gRPC or by REST.

    Utterances are checked before anything is sent. What may pass is tried again, with pauses that double: a server that
    cannot be reached or is overloaded (gRPC `UNAVAILABLE`, HTTP 429, 502, 503 and 504), and an answer that says the
    request were malformed, since a server that gathers requests answers so if another one in the batch is. A model that
    is updated meanwhile is no trouble. One client may be used by several threads.

    Args:
        target: the server's address, `"host:8500"`; for REST `"host:8501"`, or the URL before `/v1/models`.
        model: its name, `<name>_<flavour>`.
        transport: `"grpc"` or `"rest"`. REST needs no TensorFlow on the client's side.
        version: number of a version; `None`, the default, asks the newest.
        timeout: seconds for a request, its retries and their pauses included.
        retries: the most times that a request is tried again.
        wait_for_ready: whether attempts that find no server do not count as retries, so that `timeout` alone ends them.
        batch_size: the most utterances in a request; a server that batches takes no more than its `max_batch_size`, 64
            in the `batching.config` that `keras-misa export` writes.
        tls: `None`, the default, for an unencrypted connection; `True` for certificates of known authorities; or path
            of a file with those to trust, PEM.
        client_certificate: with `tls`: pair of paths, certificate chain and private key, PEM, by which the server knows
            the client.
        headers: dict, sent with each request, such as `{"authorization": "Bearer …"}`.

    Raises:
        ValueError: If an argument is not valid.
        OSError: If a file of certificates cannot be read.

    Example:
        ```python
        with keras_misa.serving.ServingClient("localhost:8500", "mosi_text") as client:
            client.wait_until_ready()
            utterance = {"text": "I loved it", "visual": visual, "acoustic": acoustic}  # (steps, features)
            client.predict(utterance)  # {"score": 1.9, "problem": ""}
            client.predict([utterance] * 1000)  # a list, by as many requests as it takes
        ```
    """

    def __init__(
        self,
        target,
        model,
        transport="grpc",
        *,
        version=None,
        timeout=5.0,
        retries=3,
        wait_for_ready=False,
        batch_size=64,
        tls=None,
        client_certificate=None,
        headers=None,
    ):
        _check(target, model, transport, version, timeout, retries, batch_size, tls, client_certificate)
        self.target = target
        self.model = model
        self.transport = transport
        self.version = version
        self.timeout = timeout
        self.retries = retries
        self.wait_for_ready = wait_for_ready
        self.batch_size = batch_size
        if transport == "grpc":
            from keras_misa.serving.grpc_transport import GrpcTransport as Transport
        else:
            from keras_misa.serving.rest_transport import RestTransport as Transport
        self._transport = Transport(target, tls, client_certificate, dict(headers or {}))
        self._description = None

    def predict(self, utterances, on_problem="raise"):
        """Predictions.

        Args:
            utterances: dict, modality → value, or an iterable of such dicts. For a model of the flavour `text`, `text`
                is a sentence or a list of words; for `tokens`, ids `(steps,)`. Other modalities are arrays `(steps,
                features)`. `None` where an utterance lacks a modality, which a model trained with modality dropout
                takes.
            on_problem: what to do about an utterance that cannot be used: `"raise"`, or `"return"` an answer with NaN
                whose `problem` says why.

        Returns:
            Dict for one utterance, list of dicts for an iterable: `score`; or `scores`, dict by name; or `class` and
            `probabilities`, dict by name; and `problem`, empty if there is none.

        Raises:
            UtteranceError: If an utterance cannot be used. It ends the call with the request that the utterance is in.
            ServingError: If a request has no answer.
            ValueError: If an argument is not valid.
            TypeError: If `utterances` holds something else than dicts.
        """
        return self._ask_all(ENCODED, utterances, on_problem)

    def representations(self, utterances, on_problem="raise"):
        """The vectors that the model makes of utterances.

        Args:
            utterances: see `predict`.
            on_problem: see `predict`.

        Returns:
            Dict, or list of dicts: `projected`, `shared` and `private`, as far as the model has them, each a dict,
            modality → array `(units,)`; and `problem`.

        Raises:
            UtteranceError: See `predict`.
            ServingError: See `predict`.
            ValueError: See `predict`.
            TypeError: See `predict`.
        """
        return self._ask_all("representations", utterances, on_problem)

    def explain(self, utterances, on_problem="raise"):
        """Predictions, and which vectors attend to which in the fusion.

        Args:
            utterances: see `predict`.
            on_problem: see `predict`.

        Returns:
            Dict, or list of dicts: what `predict` returns; `attention`, array `(heads, queries, keys)`; and
            `token_names`, names of the fused vectors, in the order of queries and keys.

        Raises:
            UtteranceError: See `predict`.
            ServingError: See `predict`.
            ValueError: See `predict`.
            TypeError: See `predict`.
        """
        return self._ask_all("explain", utterances, on_problem)

    def describe(self):
        """What the served model takes and gives, as the server says it now.

        Returns:
            Dict: `model`; `version`; `modalities`, dict, modality → `{"kind": "vectors", "dim": 47}`,
            `{"kind": "ids"}` or `{"kind": "sentence"}`; and `signatures`, dict, name → `inputs` and `outputs`, each
            with `dtype` and `shape`.

        Raises:
            ServingError: If the server does not say it, or has a model of another kind.
        """
        version, signatures = self._ask("metadata", self._transport.metadata)
        try:
            signatures = read_signatures(signatures)
            modalities = read_modalities(signatures)
        except ValueError as error:
            raise self._error("metadata", "FAILED_PRECONDITION", str(error)) from error
        except FOREIGN as error:
            words = f"not the signatures of a model: {str(signatures)[:SHOWN]}"
            raise self._error("metadata", "INTERNAL", words) from error
        description = {
            "model": self.model,
            "version": version,
            "modalities": modalities,
            "signatures": signatures,
        }
        self._description = description  # remembered, until a thread has reason to forget it
        return description

    def status(self):
        """In which state the model's versions are.

        Returns:
            Dict, version → `"START"`, `"LOADING"`, `"AVAILABLE"`, `"UNLOADING"` or `"END"`; only `version`, if the
            client has one.

        Raises:
            ServingError: If the server cannot be reached or has no such model.
        """
        return {number: state for number, (state, _) in self._ask("status", self._transport.status).items()}

    def wait_until_ready(self, timeout=60.0):
        """Wait until the server has the model in service.

        Args:
            timeout: seconds after which to give up.

        Raises:
            ServingError: If the model is not in service by then; it says what the server said last.
        """
        end = time.monotonic() + timeout
        while True:
            try:
                states = self._transport.status(self.model, self.version, max(min(5.0, end - time.monotonic()), 0.1))
                if any(state == "AVAILABLE" for state, _ in states.values()):
                    return
                status = "UNAVAILABLE"
                words = ", ".join(f"version {n} is {' '.join(said).strip()}" for n, said in states.items())
            except Failure as failure:
                status, words = failure.status, failure.words
            if time.monotonic() + POLL >= end:
                raise self._error("status", status, f"not ready after {timeout:g} s; {words or 'it has no version'}")
            time.sleep(POLL)

    def close(self):
        """Close the connection."""
        self._transport.close()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def _ask_all(self, signature, utterances, on_problem):
        if on_problem not in ("raise", "return"):
            raise ValueError(f'`on_problem` must be "raise" or "return". Received: on_problem={on_problem!r}')
        alone = isinstance(utterances, collections.abc.Mapping)
        if not alone and (isinstance(utterances, str) or not isinstance(utterances, collections.abc.Iterable)):
            raise TypeError(
                "`utterances` must be a dict, modality → value, or an iterable of such dicts. "
                f"Received: utterances of type {type(utterances).__name__}"
            )
        rows = iter([utterances] if alone else utterances)
        answers = []
        known, is_asked = None, False  # the server is asked what it takes once a call, at most
        while batch := list(itertools.islice(rows, self.batch_size)):
            known = known if is_asked else self._description
            if known is None:
                known, is_asked = self.describe(), True
            read = _read(known, batch, len(answers))
            if read[-1] and not is_asked:  # another version may take what the one that is remembered does not
                known, is_asked = self.describe(), True
                read = _read(known, batch, len(answers))
            answers += self._ask_batch(signature, *read, len(answers), on_problem)
        return answers[0] if alone else answers

    def _ask_batch(self, signature, encoding, values, problems, start, on_problem):
        if problems and on_problem == "raise":
            raise UtteranceError(problems)
        inputs = encoding.encode(values) if signature == ENCODED else encoding.pad(values)
        outputs = self._ask(signature, self._transport.predict, signature, inputs, passing=OF_A_BATCH)
        try:
            answers = read_answers(outputs)
        except FOREIGN as error:
            self._description = None
            words = f"not the outputs of a model that `keras-misa export` wrote: {str(outputs)[:SHOWN]}"
            raise self._error(signature, "INTERNAL", words) from error
        if any(answer["problem"] for row, answer in enumerate(answers, start) if row not in problems):
            self._description = None  # the server may have another version by now, which takes something else
        if len(answers) != len(values):
            raise self._error(signature, "INTERNAL", f"{len(answers)} answers to {len(values)} utterances")
        for place, problem in problems.items():
            answers[place - start]["problem"] = problem
        problems = {start + row: answer["problem"] for row, answer in enumerate(answers) if answer["problem"]}
        if problems and on_problem == "raise":
            raise UtteranceError(problems)
        return answers

    def _ask(self, signature, method, *arguments, passing=()):
        attempts = Attempts(self.timeout, self.retries, self.wait_for_ready)
        try:
            return attempts.run(lambda seconds: method(self.model, self.version, *arguments, seconds), passing)
        except Failure as failure:
            self._description = None
            words = f"{failure.words} (after {attempts.count} attempt{'s' * (attempts.count > 1)})"
            if failure.status == "DEADLINE_EXCEEDED" and not failure.may_pass:  # the client's, not a gateway's
                words = f"no answer within {self.timeout:g} s, `timeout`: {words}"
            raise self._error(signature, failure.status, words) from failure

    def _error(self, signature, status, words):
        version = "" if self.version is None else f", version {self.version}"
        message = f"{self.transport} {self.target}, model {self.model!r}{version}, {signature}: {status}: {words}"
        return ServingError(message, self.target, self.model, signature, status)


def _read(description, batch, start):
    """Encoding, values of the utterances, and problems by place; what cannot be used is an utterance of nothing."""
    encoding = RequestEncoding(description["modalities"])
    values, problems = [], {}
    for place, utterance in enumerate(batch, start):
        if not isinstance(utterance, collections.abc.Mapping):
            raise TypeError(
                "An utterance must be a dict, modality → value. "
                f"Received: utterances[{place}] of type {type(utterance).__name__}"
            )
        try:
            values.append(encoding.read(utterance))
        except ValueError as error:
            values.append(encoding.nothing)
            problems[place] = str(error)
    return encoding, values, problems


def _check(target, model, transport, version, timeout, retries, batch_size, tls, client_certificate):
    if transport not in TRANSPORTS:
        raise ValueError(f"`transport` must be one of {TRANSPORTS}. Received: transport={transport!r}")
    if not isinstance(target, str) or not target or (transport == "grpc" and "://" in target):
        expected = "host:port, with a scheme for REST alone"
        raise ValueError(f"`target` must be the server's address, {expected}. Received: target={target!r}")
    if not isinstance(model, str) or not model:
        raise ValueError(f"`model` must be the name that the server knows it by. Received: model={model!r}")
    if version is not None and (isinstance(version, bool) or not isinstance(version, int) or version < 0):
        raise ValueError(f"`version` must be a number or None. Received: version={version!r}")
    if not timeout > 0:
        raise ValueError(f"`timeout` must be seconds above 0. Received: timeout={timeout!r}")
    if retries < 0:
        raise ValueError(f"`retries` must be 0 or more. Received: retries={retries!r}")
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be 1 or more. Received: batch_size={batch_size!r}")
    if client_certificate is not None and (not tls or len(client_certificate) != 2):
        raise ValueError(
            "`client_certificate` must be a pair of files, certificate chain and key, and needs `tls`. "
            f"Received: client_certificate={client_certificate!r}, tls={tls!r}"
        )
