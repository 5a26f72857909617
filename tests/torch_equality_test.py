"""Predictions, losses and the gradient of every weight against PyTorch, on all three backends."""

import keras
import numpy as np
import pytest
from oracles import to_numpy, weight_gradients

from keras_misa.cli import main
from keras_misa.convert import (
    model_from_state_dict,
    model_inputs,
    read_torch_checkpoint,
    reference_optimizer,
    to_state_dict,
)
from keras_misa.layers import UtteranceEncoder, WordUtteranceEncoder
from keras_misa.models import MISABackbone, MISARegressor

torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with", exc_type=ImportError)
from torch_misa import ACTIVATIONS, Bert, Misa  # noqa: E402

pytestmark = pytest.mark.backends
SIZES = (6, 3, 5)
TERMS = ("task", "similarity", "difference", "reconstruction", "loss")
UNUSED = pytest.mark.filterwarnings("ignore:The model has no use for these arrays")


def make_arrays(rows, time=7, classes=1, seed=0):
    """A ragged batch, named as `model_inputs` names it, and labels."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, time + 1, rows)
    lengths[0] = time
    words = rng.integers(2, 20, (rows, time))
    padded = np.arange(time) >= lengths[:, None]
    words[padded] = 1
    visual, acoustic = (rng.normal(size=(rows, time, size)).astype("float32") for size in SIZES[1:])
    visual[padded] = acoustic[padded] = 0.0
    labels = rng.uniform(-3, 3, rows).astype("float32") if classes == 1 else rng.integers(0, classes, rows)
    return {"words": words, "visual": visual, "acoustic": acoustic, "lengths": lengths}, labels


def of_pytorch(module, arrays, labels):
    """Its prediction, losses, and the gradients as a state dict."""
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    text = tensors.pop("token_ids" if module.has_bert else "words")
    prediction = module(text, mask=tensors.pop("padding_mask", None), **tensors)
    losses = module.losses(prediction, torch.from_numpy(labels))
    module.zero_grad()
    losses["loss"].backward()
    gradients = {name: array * 0 for name, array in state_dict_of(module).items()}
    # The slope of PReLU stands in a state dict under several names.
    for name, parameter in module.named_parameters(remove_duplicate=False):
        if parameter.grad is not None:
            gradients[name] = parameter.grad.numpy()
    return prediction.detach().numpy(), {name: value.item() for name, value in losses.items()}, gradients


def state_dict_of(module):
    return {name: tensor.detach().numpy().copy() for name, tensor in module.state_dict().items()}


def compare(module, arrays, labels, **arguments):
    arguments["num_classes"] = module.fusion.fusion_layer_3.out_features
    prediction, losses, gradients = of_pytorch(module, arrays, labels)
    model = model_from_state_dict(state_dict_of(module), dropout=0.0, fusion_dropout=0.0, **arguments)
    model.compile()
    batch = keras.tree.map_structure(keras.ops.convert_to_tensor, model_inputs(**arrays))
    labels = keras.ops.convert_to_tensor(labels)
    np.testing.assert_allclose(to_numpy(model(batch, training=False)), prediction, atol=1e-5, rtol=0)
    logs = model.evaluate(batch, labels, batch_size=len(prediction), verbose=0, return_dict=True)
    assert {name: logs[name] for name in TERMS} == pytest.approx(losses, abs=1e-5, rel=1e-5)

    # PyTorch's gradients become ours as its weights do: the conversion is linear, but for the two biases of an LSTM,
    # of which the sum is taken.
    expected = model_from_state_dict(gradients, dropout=0.0, fusion_dropout=0.0, **arguments)

    def total():
        return model.compute_loss(batch, labels, model(batch, training=False), training=False)

    received = weight_gradients(total, model.trainable_variables)
    assert len(received) > 40
    for variable, gradient, counterpart in zip(
        model.trainable_variables, received, expected.trainable_variables, strict=True
    ):
        assert counterpart.path.split("/")[1:] == variable.path.split("/")[1:]
        reference = to_numpy(counterpart.value) / getattr(variable, "stands_for", 1)
        tolerance = 1e-4 * max(1.0, np.abs(reference).max())
        np.testing.assert_allclose(gradient, reference, atol=tolerance, rtol=0, err_msg=variable.path)
    return model


@UNUSED
@pytest.mark.parametrize(("activation", "classes"), list(zip(ACTIVATIONS, (1, 2, 1, 2, 2), strict=True)))
def test_every_activation_regression_and_classification(activation, classes):
    torch.manual_seed(0)
    module = Misa(SIZES, num_classes=classes, activation=activation)
    compare(module, *make_arrays(6, classes=classes), activation=activation)


@UNUSED
@pytest.mark.parametrize("rows", [1, 17, 64])
def test_ragged_batches(rows):
    torch.manual_seed(1)
    compare(Misa(SIZES), *make_arrays(rows, time=min(rows + 3, 20), seed=rows))


@UNUSED
@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("adversarial", [False, True])
def test_cells_and_the_discriminator(cell, adversarial):
    torch.manual_seed(2)
    module = Misa(SIZES, cell=cell, adversarial=adversarial, activation="prelu")
    model = compare(module, *make_arrays(5), activation="prelu")
    assert model.similarity == ("adversarial" if adversarial else "cmd")
    assert {encoder.cell for encoder in model.backbone.encoders.values()} == {cell}


@UNUSED
def test_bert():
    torch.manual_seed(3)
    module = Misa((300, *SIZES[1:]), bert=Bert(), activation="leaky_relu")
    arrays, labels = make_arrays(5)
    del arrays["words"]
    rng = np.random.default_rng(0)
    pieces = np.array([9, 2, 5, 7, 3])
    arrays["padding_mask"] = (np.arange(9) < pieces[:, None]).astype("int64")
    arrays["token_ids"] = rng.integers(0, 30, (5, 9)) * arrays["padding_mask"]
    model = compare(module, arrays, labels, activation="leaky_relu")
    assert model.backbone.encoders["text"].backbone.num_layers == 2


@UNUSED
@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("kind", ["words", "GRU, adversarial, PReLU", "BERT"])
def test_there_and_back_through_files(kind, is_zip, tmp_path):
    """What we write PyTorch loads, and computes the same with."""
    torch.manual_seed(4)
    arguments = {
        "words": {"sizes": SIZES, "num_classes": 3},
        "GRU, adversarial, PReLU": {"sizes": SIZES, "cell": "gru", "adversarial": True, "activation": "prelu"},
        "BERT": {"sizes": (300, *SIZES[1:]), "bert": Bert()},
    }[kind]
    module = Misa(**arguments)
    torch.save(module.state_dict(), tmp_path / "a.std", _use_new_zipfile_serialization=is_zip)
    received = read_torch_checkpoint(tmp_path / "a.std")
    expected = state_dict_of(module)
    assert list(received) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(received[name], array)
    activation = arguments.get("activation", "relu")
    model = model_from_state_dict(received, arguments.get("num_classes", 1), activation)
    back = to_state_dict(model)
    for name, array in back.items():
        if (
            "sp_discriminator" not in name
            and not (kind == "BERT" and "tlayer_norm" in name)
            and not ("rnn" in name and "bias" in name and "gru" not in kind.lower())
        ):
            np.testing.assert_array_equal(array, expected[name], err_msg=name)
    other = Misa(**{**arguments, **({"bert": Bert()} if kind == "BERT" else {})})
    other.load_state_dict({name: torch.from_numpy(array) for name, array in back.items()})
    arrays, _ = make_arrays(4)
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    text = tensors.pop("words")
    mask = torch.ones_like(text) if kind == "BERT" else None
    with torch.no_grad():
        assert (module(text, mask=mask, **tensors) - other(text, mask=mask, **tensors)).abs().max() < 1e-5


def train_both(module, batches, optimizer, steps, **arguments):
    """Losses of each step: PyTorch's, ours."""
    model = model_from_state_dict(state_dict_of(module), dropout=0.0, fusion_dropout=0.0, **arguments)
    model.compile(optimizer)
    adam = torch.optim.Adam(module.parameters(), lr=1e-3)
    theirs, ours = [], []
    for step in range(steps):
        arrays, labels = batches[step % len(batches)]
        prediction = module(*(torch.from_numpy(arrays[n]) for n in ("words", "visual", "acoustic", "lengths")))
        loss = module.losses(prediction, torch.from_numpy(labels))["loss"]
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_value_(module.parameters(), 1.0)
        adam.step()
        theirs.append(loss.item())
        model.reset_metrics()
        ours.append(float(model.train_on_batch(model_inputs(**arrays), labels, return_dict=True)["loss"]))
    return np.array(theirs), np.array(ours)


@UNUSED
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_training_keeps_step_with_pytorch(cell):
    torch.manual_seed(5)
    batches = [make_arrays(8, time=6, seed=seed) for seed in range(3)]
    theirs, ours = train_both(Misa(SIZES, cell=cell), batches, reference_optimizer(1e-3), 12)
    assert theirs[9] < theirs[0]  # the same batch
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)
    torch.manual_seed(5)
    _, plain = train_both(Misa(SIZES, cell=cell), batches, keras.optimizers.Adam(1e-3, clipvalue=1.0), 12)
    assert np.abs(plain / theirs - 1).max() > 3 * np.abs(ours / theirs - 1).max()


def test_the_bias_of_an_lstm_moves_twice_as_far():
    torch.manual_seed(6)
    arrays, labels = make_arrays(8)
    with pytest.warns(UserWarning, match="no use for"):
        model = model_from_state_dict(state_dict_of(Misa(SIZES)), dropout=0.0, fusion_dropout=0.0)
    model.compile(reference_optimizer(1e-3))
    before = [np.copy(w) for w in model.get_weights()]
    model.fit(model_inputs(**arrays), labels, verbose=0)
    moved = {
        weight.path: np.median(np.abs(value - old))
        for weight, value, old in zip(model.weights, model.get_weights(), before, strict=True)
    }
    biases = [path for path in moved if "lstm" in path and path.endswith("bias")]
    kernels = [path for path in moved if "lstm" in path and path.endswith("kernel")]
    assert len(biases) == 12
    assert [moved[path] for path in biases] == pytest.approx([2e-3] * 12, rel=1e-2)
    assert [moved[path] for path in kernels] == pytest.approx([1e-3] * len(kernels), rel=1e-2)


def test_the_command_converts_a_checkpoint(tmp_path, capsys):
    torch.manual_seed(7)
    module = Misa(SIZES, num_classes=2, activation="tanh")
    torch.save(module.state_dict(), tmp_path / "a.std")
    command = ["convert", str(tmp_path / "a.std"), "--out", str(tmp_path / "a.keras"), "--activation", "tanh"]
    assert main(command) == 0
    output = capsys.readouterr().out
    assert "no use for these arrays of the state dict: sp_discriminator" in output
    assert "MISAClassifier of" in output
    arrays, _ = make_arrays(4)
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    with torch.no_grad():
        expected = module(tensors.pop("words"), **tensors).numpy()
    model = keras.models.load_model(tmp_path / "a.keras")
    np.testing.assert_allclose(model.predict(model_inputs(**arrays), verbose=0), expected, atol=1e-5)
    assert main(command) == 2
    assert "--force replaces it" in capsys.readouterr().err
    assert main([*command, "--force"]) == 0
    torch.save({"epoch": 3, "model": module.state_dict()}, tmp_path / "b.std")
    assert main(["convert", str(tmp_path / "b.std"), "--out", str(tmp_path / "b.keras")]) == 2
    assert "under the name 'epoch'" in capsys.readouterr().err
    torch.save({n: t for n, t in module.state_dict().items() if "vrnn" not in n}, tmp_path / "c.std")
    assert main(["convert", str(tmp_path / "c.std"), "--out", str(tmp_path / "c.keras")]) == 2
    assert "lacks 'vrnn1.weight_ih_l0'" in capsys.readouterr().err
    assert not (tmp_path / "c.keras").exists()


def test_models_that_the_published_code_lacks_are_refused_by_name():
    encoders = {m: UtteranceEncoder(3) for m in ("text", "visual", "thermal")}
    model = MISARegressor(MISABackbone(encoders, 4), fused=("shared",), shared_decoder=True, similarity="mmd")
    with pytest.raises(ValueError, match="no such model") as error:
        to_state_dict(model)
    for reason in ("'thermal'", "fused=('shared',)", "shared_decoder=True", "similarity='mmd'"):
        assert reason in str(error.value)


def test_tokens_in_our_order_become_those_of_the_published_code():
    encoders = {
        "acoustic": UtteranceEncoder(5),
        "text": WordUtteranceEncoder(20, 6),
        "visual": UtteranceEncoder(3),
    }
    model = MISARegressor(MISABackbone(encoders, 8), feedforward_dim=2048, fused=("shared", "private"))
    arrays, _ = make_arrays(4)
    module = Misa(SIZES)
    module.load_state_dict({name: torch.from_numpy(array) for name, array in to_state_dict(model).items()})
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    with torch.no_grad():
        expected = module(tensors.pop("words"), **tensors).numpy()
    np.testing.assert_allclose(model.predict(model_inputs(**arrays), verbose=0), expected, atol=1e-5)
