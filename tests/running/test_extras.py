"""The declarations that let torchvision and timm be imported beside a CPU-only torch."""

import subprocess
import sys

import pytest
import torch

from efface.errors import InputError
from efface.running import extras
from efface.running.extras import import_timm, import_torchvision


def test_torchvision_imports_and_builds_a_model():
    pytest.importorskip("PIL")
    torchvision = import_torchvision()
    assert import_torchvision() is torchvision
    assert torchvision.models.get_model("resnet18", num_classes=3).fc.out_features == 3


def test_timm_imports():
    assert "resnet18" in import_timm().list_models("resnet18")


@pytest.mark.seconds
def test_import_works_in_a_fresh_process_with_no_earlier_torchvision():
    code = (
        "from efface.running.extras import import_torchvision as f; "
        "tv = f(); tv.datasets.MNIST; tv.transforms.CenterCrop; print(tv.__name__)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert answer.stdout.strip() == "torchvision", answer.stderr


def test_operators_that_exist_are_not_declared_again(tmp_path):
    import_torchvision()
    before = len(extras._DECLARED)
    extras._declare_missing_operators(str(tmp_path))
    assert len(extras._DECLARED) == before
    assert hasattr(torch.ops.torchvision, "nms")


def test_a_missing_package_is_answered_with_the_extra_to_install(monkeypatch):
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"'timm'.*pip install 'efface\[vision\]'"):
        import_timm()
