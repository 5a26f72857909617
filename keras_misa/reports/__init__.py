"""Runs as one page."""

from keras_misa.reports.write_report import write_report

__all__ = ["write_report"]
