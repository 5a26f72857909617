import numpy as np

from keras_misa.data.build_report import BuildReport


def tell(report, part):
    rng = np.random.default_rng(part)
    values = rng.normal(size=(5, 3))
    values[0, part % 3] = [np.nan, np.inf][part % 2]
    values[:, 2] = 4.0
    report.look("visual", values)
    if part:
        report.look("acoustic", values[:, :2])
    report.note("a note of all")
    report.note(f"a note of {part}")
    report.drop(f"x[{part}]", "empty", "no word")
    for split in ("train", "test")[: part + 1]:
        report.keep(split, {"video_id": f"v{part // 2}", "visual": values, "words": ["a"] * part, "label": part - 1.5})


def test_a_merged_report_is_that_of_one_that_was_told_everything():
    whole, merged = BuildReport(), BuildReport()
    for part in range(4):
        tell(whole, part)
        told = BuildReport()
        tell(told, part)
        merged.merge(told)
    assert merged.as_dict() == whole.as_dict()
    assert list(merged.as_dict()["modalities"]) == ["visual", "acoustic"]
    assert merged.dropped == whole.dropped
    assert merged.notes == whole.notes
