"""What runs against what the parameters state."""

import pytest
import torch

from sam2love.params import load_params
from sam2love.training.engine import start_engine
from tests import tiny

CPU = torch.device("cpu")


def test_one_process_is_what_the_default_states():
    accelerator = start_engine(load_params(tiny.DEFAULT_PARAMS).train, device=CPU)
    assert accelerator.num_processes == 1
    assert accelerator.device.type == "cpu"


def test_more_or_fewer_processes_than_stated_are_refused():
    train = load_params(tiny.DEFAULT_PARAMS).train.model_copy(update={"processes": 2})
    with pytest.raises(ValueError, match=r"processes is 2, but 1 are running; started"):
        start_engine(train, device=CPU)


def test_zero_without_deepspeed_names_the_extra(monkeypatch):
    monkeypatch.setattr("sam2love.training.engine.find_spec", lambda name: None)
    train = load_params(tiny.DEFAULT_PARAMS).train.model_copy(update={"engine": "zero2"})
    with pytest.raises(ValueError, match=r"pip install 'sam2love\[deepspeed\]'"):
        start_engine(train, device=CPU)


def test_zero_on_a_cpu_does_not_pass_for_zero():
    pytest.importorskip("deepspeed")
    train = load_params(tiny.DEFAULT_PARAMS).train.model_copy(update={"engine": "zero2"})
    with pytest.raises(ValueError, match=r"engine is zero2, but .* is running; .*cuda"):
        start_engine(train, device=CPU)
