"""The public surface, and that it is documented."""

import importlib
import inspect
import pathlib
import subprocess
import sys

import pytest

import keras_misa

GOLDEN = pathlib.Path(__file__).with_name("api_symbols.txt").read_text(encoding="utf-8").split()
SYMBOLS = [
    f"{module}.{name}"
    for module in sorted(keras_misa.__all__)
    for name in sorted(importlib.import_module(f"keras_misa.{module}").__all__)
]


def resolve(symbol):
    module, name = symbol.split(".")
    return getattr(importlib.import_module(f"keras_misa.{module}"), name)


def test_golden_list():
    assert SYMBOLS == GOLDEN


@pytest.mark.parametrize("symbol", [symbol for symbol in SYMBOLS if callable(resolve(symbol))])
def test_every_argument_is_documented(symbol):
    thing = resolve(symbol)
    documentation = inspect.getdoc(thing)
    assert documentation
    for argument, parameter in inspect.signature(thing).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD and argument == "kwargs":
            continue
        stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        assert f"\n    {stars}{argument}: " in documentation, argument


def test_import_is_light():
    heavy = ["keras", "tensorflow", "numpy", "rich"]
    code = f"import sys, keras_misa, keras_misa.cli; print([m for m in {heavy} if m in sys.modules])"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"


def test_unknown_attribute():
    with pytest.raises(AttributeError, match="no attribute 'layer'"):
        keras_misa.layer  # noqa: B018
    assert set(keras_misa.__all__) <= set(dir(keras_misa))
