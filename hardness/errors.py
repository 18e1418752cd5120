"""A user's mistake, told in one line."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user can mend: what was expected, what was found, what to do.

    The command line prints it as one line on stderr and exits with status 2.
    """

    def __init__(self, expected: str, found: str, do: str):
        # Three arguments, so that the exception survives pickling between processes.
        super().__init__(expected, found, do)

    def __str__(self) -> str:
        expected, found, do = self.args
        return " ".join(f"expected {expected}; found {found}; {do}".split())


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name nobody knows: what is known, and the nearest of it."""
    known = list(dict.fromkeys(known))
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    more = f" and {len(known) - 8} more" if len(known) > 8 else ""
    do = f"did you mean {' or '.join(near)}?" if near else "choose one of those"
    return UserError(f"{kind} among {', '.join(known[:8])}{more}", repr(name), do)
