"""An id that stays with its example through shuffling, subsets and dictionaries."""

import torch
from torch.utils.data import DataLoader, Subset, TensorDataset

from hardness import Recorder
from hardness.dynamics import store
from hardness.integrations.pytorch import with_ids


def test_ids_survive_shuffling(tmp_path):
    labels = torch.arange(20) % 3
    data = with_ids(TensorDataset(torch.arange(20.0), labels))
    assert len(data) == 20
    with Recorder(tmp_path, 20) as recorder:
        for values, batch_labels, ids in DataLoader(data, batch_size=7, shuffle=True):
            assert torch.equal(values.long(), ids)
            recorder.update(ids, torch.zeros(len(ids), 3), batch_labels)
        recorder.end_epoch()
    assert (store.read_epoch(tmp_path, 1).given_label == labels.numpy()).all()


def test_items_of_any_kind_get_an_id():
    assert with_ids([{"text": "a"}, {"text": "b"}])[1] == {"text": "b", "example_id": 1}
    assert with_ids(["a", "b"])[1] == ("b", 1)
    assert with_ids([["a", 0]])[0] == ("a", 0, 0)
    assert Subset(with_ids(["a", "b"]), [1])[0] == ("b", 1)
