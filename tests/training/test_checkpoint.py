import io
from pathlib import Path

import pytest
import torch

from hardness import optim
from hardness.training import checkpoint
from tests.conftest import refused

CPU = torch.device("cpu")


def network() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    model = torch.nn.Linear(50, 20)
    return model, optim.build("sgdm", model.parameters(), lr=0.1)


@pytest.fixture
def saved(tmp_path):
    checkpoint.save(tmp_path / "last.pt", *network(), epoch=3)
    return tmp_path / "last.pt"


def test_a_saved_state_is_loaded(saved):
    model, optimizer = network()
    assert checkpoint.load(saved, model, optimizer, CPU) == 3
    assert torch.equal(model.weight, torch.load(saved, weights_only=True)["model"]["weight"])
    assert checkpoint.load(saved.with_name("none.pt"), model, optimizer, CPU) == 0


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError("disk full"), RuntimeError("another")])
def test_an_error_while_saving_is_raised_as_it_is(tmp_path, monkeypatch, error):
    class Interrupted(io.FileIO):
        def write(self, data):
            if self.tell() > 1000:
                raise error
            return super().write(data)

    monkeypatch.setattr(Path, "open", lambda path, mode: Interrupted(path, mode))
    with pytest.raises(type(error)) as raised:
        checkpoint.save(tmp_path / "last.pt", *network(), epoch=3)
    assert raised.value is error
    assert not list(tmp_path.iterdir())


def of_another_network() -> bytes:
    buffer = io.BytesIO()
    torch.save({"epoch": 1, "model": torch.nn.Linear(2, 3).state_dict(), "optimizer": {}}, buffer)
    return buffer.getvalue()


def of_something_else() -> bytes:
    buffer = io.BytesIO()
    torch.save([1, 2], buffer)
    return buffer.getvalue()


DAMAGES = {
    "empty": lambda whole: b"",
    "cut off": lambda whole: whole[:1000],
    "text": lambda whole: b"weights\n" * 100,
    "another network's": lambda whole: of_another_network(),
    "something else": lambda whole: of_something_else(),
    # In the middle of the weights.
    "a bit": lambda whole: whole[:2500] + bytes([whole[2500] ^ 1]) + whole[2501:],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_an_error_of_one_line(saved, damage):
    saved.write_bytes(DAMAGES[damage](saved.read_bytes()))
    with refused("bad-checkpoint", path=str(saved)) as caught:
        checkpoint.load(saved, *network(), CPU)
    assert caught.value.values["reason"]
    assert "\n" not in str(caught.value)


def test_weights_that_were_not_saved(tmp_path):
    for epoch in (10, 3):
        checkpoint.keep_weights(tmp_path, network()[0], epoch)
    assert checkpoint.load_weights(tmp_path, network()[0], CPU, epoch=3) == 3
    path = tmp_path / "checkpoints" / "epoch=4.pt"
    with refused("no-weights", path=str(path), epochs="3, 10"):
        checkpoint.load_weights(tmp_path, network()[0], CPU, epoch=4)
