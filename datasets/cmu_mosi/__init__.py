"""CMU-MOSI from the authors' pre-computed splits."""
