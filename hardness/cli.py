"""``hardness STAGE``: the flags are the fields of the stage's dataclass."""

import functools
import operator
import signal
import sys
from dataclasses import make_dataclass
from typing import Annotated, Any

import tyro

from hardness.console import escape_unencodable, silence
from hardness.errors import UserError
from hardness.ranks import launched
from hardness.registry import STAGES


def main() -> None:
    """Exit status: 0 success, 2 an error that the user can fix (one line on stderr), 130 interrupted."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    escape_unencodable()
    try:
        stage, config = _parsed(sys.argv[1:])
        ranks = launched()
        if not ranks.is_first:
            silence()
        if ranks.is_many and not STAGES[stage].many_ranks:
            sentence = "{stage} runs in one process (torchrun started {num_ranks}); only track takes several."
            values = {"stage": stage, "num_ranks": ranks.size}
            raise UserError("one-process-only", sentence, "Start it without torchrun.", **values)
        STAGES[stage].code()(config)
    except UserError as error:
        _leave(f"hardness: {error}", 2)
    except OSError as error:
        hint = "Check the path, its permissions and the free disk space."
        _leave(f"hardness: {UserError('file-access', '{error}.', hint, error=error)}", 2)
    except KeyboardInterrupt:
        sys.exit(130)


def _parsed(words: list[str]) -> tuple[str, Any]:
    """(the stage, its settings). Raises ``UserError`` for an unknown stage; tyro reports unknown flags."""
    chosen = words[0] if words and not words[0].startswith("-") else ""
    # A union of dataclasses, each a subcommand. Only the code of the chosen stage is imported.
    settings = {
        name: make_dataclass(name, (), namespace={"__doc__": entry.summary}) for name, entry in STAGES.items()
    }
    if chosen:
        settings[chosen] = STAGES[chosen].load()
    commands = [Annotated[each, tyro.conf.subcommand(name)] for name, each in settings.items()]
    options = (tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes)
    union = functools.reduce(operator.or_, commands)
    return chosen, tyro.cli(union, prog="hardness", description=_DESCRIPTION, config=options)


def _leave(line: str, status: int) -> None:
    print(line, file=sys.stderr)
    sys.exit(status)


_DESCRIPTION = """Which examples does a network find easy or hard, and why? (arXiv:2003.07422)

Start with `hardness demo`: all stages on digits, in a minute or two."""
