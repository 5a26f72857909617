"""MISA in plain Keras: TFDS splits, `compile`, `fit`, `evaluate`.

python examples/fit_on_tfds.py [--epochs 3]
"""

import argparse

import keras

from keras_misa.data import load_dataset, load_word_table
from keras_misa.layers import UtteranceEncoder, WordUtteranceEncoder
from keras_misa.models import MISABackbone, MISARegressor

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--epochs", type=int, default=3)
options = parser.parse_args()
keras.utils.set_random_seed(0)

words = load_word_table("synthetic_subspaces")
train = load_dataset("synthetic_subspaces", "train", text=words, shuffle=True)
validation = load_dataset("synthetic_subspaces", "validation", text=words)
test = load_dataset("synthetic_subspaces", "test", text=words)

text = WordUtteranceEncoder(len(words), words.dimension)
text.set_vectors(words.vectors)
backbone = MISABackbone({"text": text, "visual": UtteranceEncoder(47), "acoustic": UtteranceEncoder(74)})
model = MISARegressor(backbone)
model.compile(keras.optimizers.Adam(1e-3, clipvalue=1.0))  # without arguments: the published protocol's 1e-4

stop = keras.callbacks.EarlyStopping("val_task", mode="min", patience=6, restore_best_weights=True)
model.fit(train, validation_data=validation, epochs=options.epochs, callbacks=[stop], verbose=2)
results = model.evaluate(test, return_dict=True, verbose=0)
print("synthetic data, test split:", {name: round(value, 4) for name, value in results.items()})
