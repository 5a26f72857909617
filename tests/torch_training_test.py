"""Forty steps of training at the real sizes, on real utterances, beside PyTorch."""

import importlib.util
import os
import pathlib
import sys

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with", exc_type=ImportError)
BENCHMARKS = pathlib.Path(__file__).parents[1] / "benchmarks"


@pytest.mark.slow
def test_training_at_the_real_sizes(monkeypatch):
    if not os.environ.get("KERAS_MISA_TEST_DATA"):
        pytest.skip("KERAS_MISA_TEST_DATA, the folder of real data, is not set")
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    specification = importlib.util.spec_from_file_location("torch_equality", BENCHMARKS / "torch_equality.py")
    benchmark = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(benchmark)
    reference, plain = benchmark.compare(steps=40, seed=0).values()
    assert reference[9] <= 1e-4
    assert reference.max() <= 1e-2
    assert plain.max() <= 5e-2
