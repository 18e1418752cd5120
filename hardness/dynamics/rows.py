"""What a Recorder has collected in an epoch, one row per example: as a table, and what is wrong with it.

Rows are float32 (N + 2, 7): label, prediction, the four arguments of ``record.finish``, times seen. The first
and the last row are for ids out of range.
"""

from collections.abc import Mapping

import pyarrow as pa
import torch
from torch import Tensor

from hardness.dynamics import store
from hardness.dynamics.batch import wrong_label
from hardness.dynamics.record import finish

_LARGEST_HALF = 65504.0


def rows_to_table(rows: Tensor, precision: str) -> pa.Table:
    """The rows on the host, in which times seen are now 0: not to be written, 1: a record, 2: null."""
    ids = rows[1:-1, -1].nonzero()[:, 0]
    label, prediction, *sums, kind = rows[1:-1][ids].unbind(1)
    numbers = torch.stack(finish(*sums))
    if precision == "float16":
        numbers = numbers.clamp_(-_LARGEST_HALF, _LARGEST_HALF).half().float()
    nulls = dict.fromkeys(store.SCHEMA.names, (kind == 2).numpy())
    nulls["prediction"] = nulls["prediction"] | (prediction < 0).numpy()
    columns = zip(store.SCHEMA.names[1:], (label.int(), prediction.int(), *numbers), strict=True)
    # from_pandas: nan is null.
    arrays = [pa.array(values.numpy(), mask=nulls[name], from_pandas=True) for name, values in columns]
    return pa.table([pa.array(ids.numpy()), *arrays], schema=store.SCHEMA)


def describe_problems(problems: Mapping[str, Tensor], outside: str, rows: Tensor) -> str:
    """What is wrong with an epoch. problems: bool (N,) by name; outside: about ids out of range, if any."""
    found = [outside] if outside else []
    for problem, where in problems.items():
        if len(ids := where.nonzero()[:, 0].tolist()):
            found.append(f"{len(ids)} {problem} (first: {', '.join(map(str, ids[:5]))})")
    if len(ids := problems["with a label that is not a class"].nonzero()):
        label, _, _, num_classes, *_ = rows[1 + ids[0].item()].tolist()
        found.append(wrong_label(ids[0].item(), label, int(num_classes)))
    if problems["repeated"].sum() > len(problems["repeated"]) / 2:
        found.append("was end_epoch() not called?")
    if problems["repeated"].any():
        found.append('repeats="first" or "last" keeps one record of each')
    if problems["missing"].any() and not problems["missing"].all():
        found.append('missing="null" records them as null')
    return "; ".join(found) or "see the errors of the other ranks"
