"""Runs as figures, for a paper and for an engineer."""

from keras_misa.plots._style import save_figure
from keras_misa.plots.draw_figures import draw_figures
from keras_misa.plots.plot_attention import plot_attention
from keras_misa.plots.plot_confusion import count_confusion, plot_confusion, sentiment_classes
from keras_misa.plots.plot_errors_by_length import plot_errors_by_length
from keras_misa.plots.plot_predictions import plot_predictions
from keras_misa.plots.plot_regularisers import plot_regularisers
from keras_misa.plots.plot_representations import embed_representations, plot_representations
from keras_misa.plots.plot_topology import plot_topology

__all__ = [
    "count_confusion",
    "draw_figures",
    "embed_representations",
    "plot_attention",
    "plot_confusion",
    "plot_errors_by_length",
    "plot_predictions",
    "plot_regularisers",
    "plot_representations",
    "plot_topology",
    "save_figure",
    "sentiment_classes",
]
