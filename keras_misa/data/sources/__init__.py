"""The forms in which people hold a dataset, one class each.

A source stands for files. `find(folder)` tells which of a folder's files it would read, `files` which it does read,
`splits` which splits they hold, and `examples(split, report)` yields utterances: dicts of `segment_id`, `video_id`,
`words` (list of str), one float32 matrix `(steps, size)` for each modality, and `label`. What it leaves out or changes
it tells the report (`keras_misa.data.build_report.BuildReport`). A damaged file is an error.
"""
