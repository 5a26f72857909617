"""The paper's grid with KerasTuner, in plain Python. `keras-misa tune` does more: see docs/search_and_scale.md.

python examples/grid_search.py [--trials 180] [--epochs 20]
"""

import argparse
import tempfile

import keras
import keras_tuner

from keras_misa.data import load_dataset, modality_dims, prepare_dataset
from keras_misa.experiments import make_config
from keras_misa.tuning import MISAHyperModel

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--trials", type=int, default=2)
parser.add_argument("--epochs", type=int, default=2)
options = parser.parse_args()

name = "synthetic_subspaces/small"
config = make_config(name, modalities=["visual", "acoustic"], learning_rate=1e-3)
train = load_dataset(name, "train", modalities=config["modalities"], shuffle=True)
validation = load_dataset(name, "validation", modalities=config["modalities"])

hypermodel = MISAHyperModel(config, modality_dims(prepare_dataset(name)), steps_per_epoch=len(train))
stop = keras.callbacks.EarlyStopping("val_task", mode="min", patience=6)
with tempfile.TemporaryDirectory() as folder:
    tuner = keras_tuner.GridSearch(
        hypermodel,
        keras_tuner.Objective("val_task", "min"),  # not val_loss, which favours small weights of the regularisers
        max_trials=options.trials,
        directory=folder,
    )
    tuner.search(train, validation_data=validation, epochs=options.epochs, callbacks=[stop], verbose=0)
    (best,) = tuner.oracle.get_best_trials()
    model = tuner.get_best_models()[0]
print(f"{len(tuner.oracle.trials)} trials; validation task loss {best.score:.4f} with {best.hyperparameters.values}")
test = load_dataset(name, "test", modalities=config["modalities"])
print("synthetic data, test split: MAE", round(model.evaluate(test, return_dict=True, verbose=0)["mae"], 4))
