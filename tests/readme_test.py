"""The README's Python blocks run, in order, in a process of their own."""

import os
import pathlib
import re
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_python_blocks_run(tmp_path):
    text = (pathlib.Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    assert blocks
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "TFDS_DATA_DIR": str(tmp_path / "data")}
    command = [sys.executable, "-c", "\n".join(blocks)]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    assert (tmp_path / "saved_model" / "saved_model.pb").exists()
