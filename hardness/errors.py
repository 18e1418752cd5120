"""A user's mistake: one plain sentence with the values, what to do, and a code that stays the same."""

import difflib
from collections.abc import Iterable
from typing import Any


class UserError(Exception):
    """Something that the user can fix.

    ``code`` is in kebab case and never changes; ``sentence`` says what is wrong and has a place in braces for
    every value; ``hint`` says what to do. For example::

        UserError("no-momentum", "{optimizer} does not take --momentum (got {momentum}).", "Remove it.",
                  optimizer="adamw", momentum=0.9)

    is ``adamw does not take --momentum (got 0.9). Remove it. [no-momentum]``. The command line prints this
    line on stderr and exits with status 2.
    """

    def __init__(self, code: str, sentence: str, hint: str, /, **values: Any):
        super().__init__(code, sentence, hint)
        self.code, self.values = code, values

    def __str__(self) -> str:
        code, sentence, hint = self.args
        return " ".join(f"{sentence} {hint}".format(**self.values).split()) + f" [{code}]"

    def __reduce__(self):
        # Processes send each other errors; an exception's values are lost on the way otherwise.
        return _restored, (self.args, self.values)


def _restored(args: tuple[str, str, str], values: dict[str, Any]) -> UserError:
    return UserError(*args, **values)


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for an unknown name, which lists the known ones and the nearest of them."""
    known = list(dict.fromkeys(known))
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    more = f" and {len(known) - 8} more" if len(known) > 8 else ""
    hint = "Did you mean {near}?" if near else "Choose one of those."
    return UserError(
        "unknown-name",
        "{name!r} is not {kind}. There are: {known}{more}.",
        hint,
        kind=kind,
        name=name,
        known=", ".join(known[:8]),
        more=more,
        near=" or ".join(near),
    )
