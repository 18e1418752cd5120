"""``hardness STAGE``: the flags are the fields of the stage's dataclass."""

import importlib
import signal
import sys
from typing import Annotated

import tyro

from hardness import config as c
from hardness.console import escape_unencodable, silence
from hardness.errors import UserError, unknown_name
from hardness.ranks import launched
from hardness.stages import STAGES

COMMANDS = {c.Demo: "hardness.recipes.run:demo", c.Run: "hardness.recipes.run:run", **STAGES}

# Union of the dataclasses, each under its own name.
_COMMANDS = Annotated[c.Demo, tyro.conf.subcommand("demo")]
for _stage in list(COMMANDS)[1:]:
    _COMMANDS = _COMMANDS | Annotated[_stage, tyro.conf.subcommand(_stage.__name__.lower())]


def main() -> None:
    """Exit status: 0 well, 2 a mistake that the user can mend (one line on stderr), 130 interrupted."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    escape_unencodable()
    try:
        _check_stage(sys.argv[1:])
        options = (tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes)
        config = tyro.cli(_COMMANDS, prog="hardness", description=_DESCRIPTION, config=options)
        ranks = launched()
        if not ranks.is_first:
            silence()
        if ranks.is_many and not isinstance(config, c.Track):
            found = f"torchrun with {ranks.size}"
            raise UserError("one process for every stage but track", found, "run it without torchrun")
        module, function = COMMANDS[type(config)].split(":")
        getattr(importlib.import_module(module), function)(config)
    except UserError as error:
        _leave(f"hardness: {error}", 2)
    except OSError as error:
        _leave(f"hardness: expected to read and write files; found {error}; check path, rights and space", 2)
    except KeyboardInterrupt:
        sys.exit(130)


def _check_stage(words: list[str]) -> None:
    """A mistyped stage; tyro answers mistyped flags."""
    stages = [stage.__name__.lower() for stage in COMMANDS]
    if words and not words[0].startswith("-") and words[0] not in stages:
        raise unknown_name("a stage", words[0], stages)


def _leave(line: str, status: int) -> None:
    print(line, file=sys.stderr)
    sys.exit(status)


_DESCRIPTION = """Which examples does a network find easy or hard, and why? (arXiv:2003.07422)

Begin with `hardness demo`: the whole story on digits in a minute or two."""
