"""The public names of `sam2love`, imported lazily."""

import subprocess
import sys

import pytest

import sam2love


@pytest.mark.parametrize("name", sam2love.__all__)
def test_public_names_can_be_imported(name):
    assert getattr(sam2love, name).__name__ == name


def test_an_unknown_name_is_an_import_error():
    with pytest.raises(ImportError, match="SAM3Love"):
        from sam2love import SAM3Love  # noqa: F401


def test_importing_the_package_does_not_import_torch():
    code = "import sys, sam2love; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
