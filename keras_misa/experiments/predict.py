"""Predictions for utterances that nobody has labelled."""

import csv
import itertools

from keras_misa._files import atomic_path
from keras_misa.experiments.predictors import open_predictor


def predict(run, source, output, batch_size=64, progress=None):
    """Predict utterances, and write a table of predictions.

    The table has a row for each utterance, in their order: `segment_id`, the prediction (with a probability for each
    class where there are classes), `problem` and `note`. An utterance that cannot be used has no prediction and says
    why; a note says what was replaced, unknown or cut. Utterances are read and predicted a batch at a time: a million
    need no more memory than a thousand.

    Args:
        run: folder that `train` wrote, or an exported model of the flavour text (or without words).
        source: a table `.csv` or `.jsonl`, or a folder that holds one, with its arrays beside it; or, for a model of
            text alone, a file `.txt` with a sentence a line. See `UnlabelledUtterances`.
        output: CSV file to write.
        batch_size: utterances at a time.
        progress: function of the number of utterances so far and of the share of the table that is read.

    Returns:
        Dict: number of `utterances`, and of those with a `problem` or a `note`.

    Raises:
        FileNotFoundError: If the run or the source is not there.
        ValueError: If the source lacks a modality of the model or has another size of one, or is damaged.

    Example:
        ```python
        keras_misa.experiments.predict("runs/first", "my_utterances", "predictions.csv")
        ```
    """
    from keras_misa.data.sources.unlabelled_utterances import UnlabelledUtterances

    predictor = open_predictor(run)
    utterances = UnlabelledUtterances(source, predictor.dims, predictor.needs_words, predictor.may_miss)
    counts = {"utterances": 0, "problem": 0, "note": 0}
    with atomic_path(output) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["segment_id", *predictor.columns, "problem", "note"])
        rows = iter(utterances)
        while batch := list(itertools.islice(rows, batch_size)):
            good = [utterance for utterance, problem in batch if not problem]
            predictions = iter(predictor.predict(good) if good else ())
            for utterance, problem in batch:
                cells = {}
                if not problem:
                    cells, problem = next(predictions)
                cells = [""] * len(predictor.columns) if problem else list(cells.values())
                note = "; ".join(utterance["notes"])
                writer.writerow([utterance["segment_id"], *cells, problem, note])
                counts["utterances"] += 1
                counts["problem"] += bool(problem)
                counts["note"] += bool(note)
            if progress:
                progress(counts["utterances"], utterances.fraction)
    return counts
