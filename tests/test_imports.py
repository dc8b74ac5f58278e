"""The direction of imports, and what each stage may load, as pyproject.toml says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent


def test_imports_point_one_way() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [program, "--no-cache"], capture_output=True, text=True, cwd=PROJECT, check=False
    )
    assert done.returncode == 0, done.stdout


def test_a_decoding_child_loads_no_torch_and_a_store_reader_no_language_model() -> None:
    for module, unwanted in {
        "extract.decode_child": "torch",
        "features.store": "transformers",
        "extract.run": "transformers",
    }.items():
        program = f"import sys, {module}; sys.exit({unwanted!r} in sys.modules)"
        done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, check=False)
        assert done.returncode == 0, f"{module} loads {unwanted}"
