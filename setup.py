"""Package metadata of keras_misa. Tool settings live in pyproject.toml."""

import pathlib
import re

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).parent
VERSION = re.search(
    r'^__version__ = "(.+)"$', (HERE / "keras_misa/__init__.py").read_text(encoding="utf-8"), re.MULTILINE
).group(1)

# `datasets/` is a top-level folder of the repository, but the import name `datasets` belongs to Hugging Face:
# it is installed as `keras_misa.datasets`.
DATASETS = ["keras_misa.datasets"] + [f"keras_misa.datasets.{name}" for name in find_packages("datasets")]

TORCH = ["torch>=2.6"]
JAX = ["jax>=0.6"]
BAYESIAN = ["scikit-learn>=1.5", "scipy>=1.13"]  # KerasTuner's Bayesian search needs them.
ONNX = ["onnxruntime>=1.20", "tf2onnx>=1.17"]  # Keras's exporter needs tf2onnx; what it wrote is tried.
BROWSER = ["playwright>=1.50"]  # The test that opens a report; the browser itself is the machine's.
PLOTS = ["scikit-learn>=1.5"]  # t-SNE, for one figure of seven.
TEST = [
    "dill>=0.3.8",  # tfds.testing imports it and does not declare it.
    "hypothesis>=6.100",
    "psutil>=5.9",  # Which processes a search has started.
    "pytest>=8.0",
    "pytest-xdist>=3.6",  # Two processes: TensorFlow traces with one thread.
    "ruff>=0.8",
    "scikit-learn>=1.5",  # The oracle of the metrics.
]

setup(
    name="keras-misa",
    version=VERSION,
    description="Modality-invariant and -specific representations (MISA) for multimodal sentiment and humour, in Keras",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    packages=find_packages(include=["keras_misa", "keras_misa.*"]) + DATASETS,
    package_dir={"keras_misa.datasets": "datasets"},
    package_data={"": ["*.css", "*.md", "*.bib", "*.txt", "*.json", "dummy_data/*", "dummy_data/**/*"]},
    install_requires=[
        "h5py>=3.11",  # Computational sequences are HDF5; Keras needs it too.
        "importlib_resources>=6.0",  # TFDS builders inside a package need it and do not declare it.
        "keras>=3.15,<4",
        "keras-nlp>=0.32,<1",
        "keras-tuner>=1.4.8,<2",
        "matplotlib>=3.9",
        "numpy>=2.0,<3",
        "requests>=2.32",  # `serving` by REST.
        "rich>=13.0",
        "safetensors>=0.4",  # keras-nlp reads Hugging Face's folders with it and does not declare it.
        "tensorboard>=2.19",  # keras.callbacks.TensorBoard needs it and TensorFlow does not declare it.
        "tensorflow>=2.21,<3",
        "tensorflow-datasets>=4.9.10,<5",
        "tensorflow-serving-api>=2.19",  # Protos: what a served model is asked with, and its warm-up requests.
    ],
    extras_require={
        "bayesian": BAYESIAN,
        "browser": BROWSER,
        "jax": JAX,
        "onnx": ONNX,
        "plots": PLOTS,
        "torch": TORCH,
        "test": TEST + BAYESIAN,
        "all": BAYESIAN + JAX + ONNX + PLOTS + TORCH + TEST,
    },
    entry_points={"console_scripts": ["keras-misa = keras_misa.cli:main"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.11",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
