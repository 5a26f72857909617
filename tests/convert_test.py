"""The reference's numbers: `tiny_regression.npz` is a complete forward pass of the published PyTorch code."""

import os
import pathlib

import numpy as np
import pytest

from keras_misa.convert import model_from_state_dict, model_inputs

pytestmark = pytest.mark.backends
LETTERS = {"text": "t", "visual": "v", "acoustic": "a"}


@pytest.fixture(scope="module")
def reference():
    folder = os.environ.get("KERAS_MISA_TEST_DATA")
    if not folder:
        pytest.skip("KERAS_MISA_TEST_DATA is not set: no forward pass of the reference to compare with")
    with np.load(pathlib.Path(folder) / "reference" / "tiny_regression.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def state_dict(reference):
    return {name.removeprefix("sd."): array for name, array in reference.items() if name.startswith("sd.")}


@pytest.fixture(scope="module")
def model(state_dict):
    with pytest.warns(UserWarning, match=r"no use for.*sp_discriminator"):
        return model_from_state_dict(state_dict)


@pytest.fixture(scope="module")
def batch(reference):
    return model_inputs(*(reference[f"in.{name}"] for name in ("words", "visual", "acoustic", "lengths")))


def test_prediction(model, batch, reference):
    np.testing.assert_allclose(model.predict(batch, verbose=0), reference["out.pred"], atol=1e-5, rtol=0)


def test_representations(model, batch, reference):
    explained = model.explain(batch)
    names = {"projected": "{}_orig", "private": "private_{}", "shared": "shared_{}", "reconstructed": "{}_recon"}
    for kind, pattern in names.items():
        for modality, letter in LETTERS.items():
            expected = reference["mid." + pattern.format(letter)]
            np.testing.assert_allclose(explained[kind][modality], expected, atol=1e-5, rtol=0, err_msg=kind)


def test_losses(model, batch, reference):
    model.compile()
    logs = model.evaluate(batch, reference["in.y"], batch_size=8, verbose=0, return_dict=True)
    names = {"task": "task", "difference": "diff", "reconstruction": "recon", "similarity": "cmd", "loss": "total"}
    for ours, theirs in names.items():
        assert logs[ours] == pytest.approx(float(reference[f"out.{theirs}"]), abs=1e-5), ours


def test_arrays_of_each_kind_count(model, batch, state_dict, reference):
    """An array is changed: prediction or losses change."""
    model.compile()

    def outputs(changed):
        with pytest.warns(UserWarning, match="no use for"):
            other = model_from_state_dict(changed)
        other.compile()
        logs = other.evaluate(batch, reference["in.y"], batch_size=8, verbose=0, return_dict=True)
        return [logs["loss"], logs["similarity"], logs["difference"], logs["reconstruction"]]

    base = outputs(state_dict)
    rng = np.random.default_rng(0)
    # One array of each kind; all of them would take minutes.
    for name in ("trnn1.bias_hh_l0_reverse", "project_a.project_a_layer_norm.bias", "recon_v.recon_v_1.bias"):
        noise = rng.normal(size=state_dict[name].shape).astype("float32")
        assert outputs({**state_dict, name: state_dict[name] + noise}) != pytest.approx(base, abs=1e-6), name


def test_missing_and_misshapen_arrays_are_named(state_dict):
    rest = {name: array for name, array in state_dict.items() if name != "vrnn2.bias_hh_l0"}
    with pytest.raises(ValueError, match=r"lacks 'vrnn2\.bias_hh_l0'"):
        model_from_state_dict(rest)
    with pytest.raises(ValueError, match=r"'shared\.shared_1\.weight' to have the shape \(16, 16\).*\(16, 15\)"):
        model_from_state_dict({**state_dict, "shared.shared_1.weight": np.zeros((16, 15))})
    with pytest.raises(ValueError, match=r"last layer has 1 outputs.*num_classes=2"):
        model_from_state_dict(state_dict, num_classes=2)


def test_model_inputs_refuses_what_does_not_fit():
    words, visual, acoustic = np.zeros((2, 3), int), np.zeros((2, 3, 5)), np.zeros((2, 3, 7))
    with pytest.raises(ValueError, match=r"lengths\[1\]=4"):
        model_inputs(words, visual, acoustic, [3, 4])
    with pytest.raises(ValueError, match=r"visual.*\(2, 4, 5\)"):
        model_inputs(words, np.zeros((2, 4, 5)), acoustic, [3, 3])
