"""Synthetic utterances made from known shared and private factors."""
