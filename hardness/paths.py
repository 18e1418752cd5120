"""Which files a --data path matches. Nothing here imports torch."""

import fnmatch
import glob
import os
from pathlib import Path

_BESIDE = {
    *("@eadir", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "$recycle.bin"),
    *("__macosx", "icon\r", "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini"),
    *("system volume information", "lost+found"),
}
"""Names that operating systems and storage devices create."""


def is_hidden(name: str) -> bool:
    """Is it a hidden file or folder, or one that an operating system created?"""
    return name.startswith(".") or name.casefold() in _BESIDE


def matching(pattern: str) -> list[str]:
    """The paths that match a pattern, sorted.

    Each name in it is tried literally first, then as a pattern with ``*``, ``?`` and ``[...]``, so that a
    folder ``data[1]`` needs no escaping. Patterns do not match hidden names.
    """
    path = Path(pattern)
    found = [path.anchor or "."]
    for name in path.parts[1:] if path.anchor else path.parts:
        found = [each for folder in found for each in _inside(folder, name)]
    return sorted(found) if pattern else []


def _inside(folder: str, name: str) -> list[str]:
    literal = Path(folder, name)
    # Path.exists raises for a name that is too long.
    if os.path.exists(literal):  # noqa: PTH110
        return [str(literal)]
    if not glob.has_magic(name) or not Path(folder).is_dir():
        return []
    names = (each.name for each in Path(folder).iterdir())
    shown = [each for each in names if name.startswith(".") or not is_hidden(each)]
    return [str(Path(folder, each)) for each in sorted(fnmatch.filter(shown, name))]
