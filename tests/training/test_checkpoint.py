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


def test_what_is_saved_is_put_in_place(saved):
    model, optimizer = network()
    assert checkpoint.load(saved, model, optimizer, CPU) == 3
    assert torch.equal(model.weight, torch.load(saved, weights_only=True)["model"]["weight"])
    assert checkpoint.load(saved.with_name("none.pt"), model, optimizer, CPU) == 0


@pytest.mark.parametrize("happening", [KeyboardInterrupt(), OSError("no room"), RuntimeError("another")])
def test_what_happens_while_it_is_saved_is_what_is_raised(tmp_path, monkeypatch, happening):
    class Interrupted(io.FileIO):
        def write(self, data):
            if self.tell() > 1000:
                raise happening
            return super().write(data)

    monkeypatch.setattr(Path, "open", lambda path, mode: Interrupted(path, mode))
    with pytest.raises(type(happening)) as raised:
        checkpoint.save(tmp_path / "last.pt", *network(), epoch=3)
    assert raised.value is happening
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
def test_a_damaged_checkpoint_is_told_in_one_line(saved, damage):
    saved.write_bytes(DAMAGES[damage](saved.read_bytes()))
    with refused("bad-checkpoint", path=str(saved)) as caught:
        checkpoint.load(saved, *network(), CPU)
    assert "\n" not in str(caught.value)
