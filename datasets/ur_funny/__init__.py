"""UR-FUNNY as a TFDS dataset."""
