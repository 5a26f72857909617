"""The published code's way of training."""

import keras
import numpy as np
import pytest
from oracles import sequence

from keras_misa.experiments import ReferenceStopping, apply_reference_protocol, build_model, make_config
from keras_misa.layers import UtteranceEncoder, WordUtteranceEncoder
from keras_misa.models import MISABackbone, MISARegressor

pytestmark = pytest.mark.backends
LABELS = np.array([1.0, -2.0, 0.5, 3.0, 0.0], "float32")


def make(cell="lstm", hidden_dim=64):
    encoders = {
        "text": WordUtteranceEncoder(4, 50, cell=cell),
        "visual": UtteranceEncoder(40, cell=cell),
    }
    return MISARegressor(MISABackbone(encoders, hidden_dim, activation="prelu"), dropout=0.0, fusion_dropout=0.0)


@pytest.mark.parametrize(
    ("losses", "stops_after", "best"),
    [
        ([5, 4, 4, 4, 4, 4], 6, 5),  # ties count as improvement: the last of them is the best
        ([5, 3, 4, 4, 2, 9, 9, 9, 9], 8, 4),  # three in a row end it with a patience of two
        ([5, 3, 4, 4, 4, 2], 5, 1),
        ([float("nan"), 3, 4, 4, 4], 5, 1),
    ],
)
def test_stopping(losses, stops_after, best):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    callback = ReferenceStopping(patience=2, monitor="val_x")
    callback.set_model(model)
    callback.on_train_begin()
    model.stop_training = False
    for epoch, loss in enumerate(losses):
        model.set_weights([np.full((1, 1), float(epoch))])
        callback.on_epoch_end(epoch, {"val_x": loss})
        if model.stop_training:
            break
    callback.on_train_end()
    assert epoch + 1 == stops_after
    assert model.get_weights()[0].item() == best


def test_watches_the_mean_of_the_batches_means():
    model = make(hidden_dim=4)
    apply_reference_protocol(model)
    batch = {
        "text": {"values": np.array([[1, 2, 3]] * 5, "int32"), "lengths": np.array([3, 1, 2, 3, 2], "int32")},
        "visual": sequence(40, [3, 1, 2, 3, 2]),
    }
    logs = model.evaluate(batch, LABELS, batch_size=4, verbose=0, return_dict=True)
    errors = (model.predict(batch, verbose=0)[:, 0] - LABELS) ** 2
    assert logs["task"] == pytest.approx(errors.mean(), abs=1e-5)
    assert logs["task_batches"] == pytest.approx((errors[:4].mean() + errors[4]) / 2, abs=1e-5)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_initialisation_is_pytorchs(cell):
    """Against freshly made PyTorch modules: equal spread, equal bounds, equal structure."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed", exc_type=ImportError)
    model = make(cell)
    table = np.copy(model.backbone.encoders["text"].embedding.get_weights()[0])
    apply_reference_protocol(model, seed=1)
    np.testing.assert_array_equal(model.backbone.encoders["text"].embedding.get_weights()[0], table)

    def alike(ours, theirs):
        ours = np.asarray(keras.ops.convert_to_numpy(ours))
        assert np.std(ours) == pytest.approx(np.std(theirs), rel=0.12)
        assert np.abs(ours).max() == pytest.approx(np.abs(theirs).max(), rel=0.12)

    torch.manual_seed(0)
    with torch.no_grad():
        rnn = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[cell](40, 40, bidirectional=True)
        rows = 160 if cell == "lstm" else 120
        bias = np.stack([rnn.bias_ih_l0.numpy(), rnn.bias_hh_l0.numpy()])
        layer = model.backbone.encoders["visual"].rnn_1[0]
        kernel, recurrent, ours = layer.get_weights()
        alike(kernel, rnn.weight_ih_l0.numpy())
        alike(ours, bias.sum(axis=0) if cell == "lstm" else bias)
        np.testing.assert_allclose(recurrent @ recurrent.T, np.eye(40), atol=1e-5)
        assert recurrent.shape == (40, rows)
        linear = torch.nn.Linear(160, 64)
        dense = model.backbone.get_layer("visual_projection")
        alike(dense.kernel, linear.weight.numpy())
        alike(dense.bias, linear.bias.numpy())
        attention = torch.nn.MultiheadAttention(64, 2)
        alike(model.fusion.attention.query_dense.kernel, attention.in_proj_weight.numpy())
        alike(model.fusion.attention.output_dense.kernel, attention.out_proj.weight.numpy())
        assert not np.any(keras.ops.convert_to_numpy(model.fusion.attention.value_dense.bias))
    (slope,) = model.backbone.activation_layer.get_weights()
    assert slope.tolist() == [0.25]
    again, other = make(cell), make(cell)
    apply_reference_protocol(again, seed=1)
    apply_reference_protocol(other, seed=2)
    heads = [m.get_layer("head_dense").get_weights()[0] for m in (model, again, other)]
    np.testing.assert_array_equal(heads[0], heads[1])
    assert np.abs(heads[0] - heads[2]).max() > 0


def test_a_configuration_chooses_it():
    for protocol, name in (("default", "FineTuningAdam"), ("reference", "ReferenceAdam")):
        config = make_config("cmu_mosei", protocol=protocol, hidden_dim=4)
        model = build_model(config, {"visual": 3})
        assert type(model.optimizer).__name__ == name
        assert model.optimizer.clipvalue == 1.0
