"""Data flows down the house: no module imports from a room below its own."""

import ast
from pathlib import Path

import hardness

ROOMS = [
    "errors",
    "seeding",
    "files",
    "paths",
    "parts",
    "shortening",
    "tables",
    "console",
    "ranks",
    "registry",
    "checks",
    "settings",
    "config",
    "resources",
    "datasets",
    "models",
    "gradients",
    "optim",
    "dynamics",
    "training",
    "probes",
    "subsets",
    "statistics",
    "label_errors",
    "agreement",
    "verdicts",
    "wording",
    "equal_loss",
    "figures",
    "stages",
    "recipes",
    "cli",
]
ROOT = Path(hardness.__file__).parent
# Checking `--by` needs the scores' names, which live with their code: imported when asked, without torch.
ALLOWED = {("config", "dynamics")}


def test_nothing_imports_a_room_below_its_own():
    wrong = set()
    for path in ROOT.rglob("*.py"):
        room = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if room in ("__init__", "__main__"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("hardness"):
                module = node.module.removeprefix("hardness").strip(".")
                names = [module.split(".")[0]] if module else [alias.name for alias in node.names]
            wrong |= {(room, name) for name in names if ROOMS.index(name) > ROOMS.index(room)}
    assert wrong == ALLOWED
