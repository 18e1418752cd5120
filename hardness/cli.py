"""``hardness STAGE``: the flags are the fields of the stage's dataclass."""

import importlib
import signal
import sys
from typing import Annotated

import tyro

from hardness import config as c
from hardness import distributed
from hardness.console import escape_unencodable
from hardness.errors import UserError, unknown_name
from hardness.stages import STAGES

COMMANDS = {c.Demo: "hardness.recipes.run:demo", c.Run: "hardness.recipes.run:run", **STAGES}

# A union of the dataclasses, each a subcommand named after it.
_COMMANDS = Annotated[c.Demo, tyro.conf.subcommand("demo")]
for _stage in list(COMMANDS)[1:]:
    _COMMANDS = _COMMANDS | Annotated[_stage, tyro.conf.subcommand(_stage.__name__.lower())]


def main() -> None:
    """Exit status: 0 success, 2 an error that the user can fix (one line on stderr), 130 interrupted."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    escape_unencodable()
    try:
        _check_stage(sys.argv[1:])
        options = (tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes)
        config = tyro.cli(_COMMANDS, prog="hardness", description=_DESCRIPTION, config=options)
        num_ranks = distributed.launch().num_ranks
        if num_ranks > 1 and not isinstance(config, c.Track):
            sentence = "Only track runs under torchrun (got {stage} in {num_ranks} processes)."
            values = {"stage": type(config).__name__.lower(), "num_ranks": num_ranks}
            raise UserError("one-process-only", sentence, "Run it without torchrun.", **values)
        module, function = COMMANDS[type(config)].split(":")
        getattr(importlib.import_module(module), function)(config)
    except UserError as error:
        _leave(f"hardness: {error}", 2)
    except OSError as error:
        hint = "Check the path, its permissions and the free disk space."
        _leave(f"hardness: {UserError('file-access', '{error}.', hint, error=error)}", 2)
    except KeyboardInterrupt:
        sys.exit(130)


def _check_stage(words: list[str]) -> None:
    """Raise ``UserError`` for an unknown stage; tyro reports unknown flags."""
    stages = [stage.__name__.lower() for stage in COMMANDS]
    if words and not words[0].startswith("-") and words[0] not in stages:
        raise unknown_name("a stage", words[0], stages)


def _leave(line: str, status: int) -> None:
    print(line, file=sys.stderr)
    sys.exit(status)


_DESCRIPTION = """Which examples does a network find easy or hard, and why? (arXiv:2003.07422)

Start with `hardness demo`: all stages on digits, in a minute or two."""
