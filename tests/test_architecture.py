"""The structure of the package: data flows down a list of modules, and files and functions stay small."""

import ast
import re
from collections import Counter
from pathlib import Path

import hardness

ORDER = [
    "errors",
    "seeding",
    "prefetch",
    "files",
    "paths",
    "parts",
    "console",
    "ranks",
    "registry",
    "checks",
    "config",
    "settings",
    "resources",
    "runs",
    "datasets",
    "models",
    "gradients",
    "statistics",
    "optim",
    "dynamics",
    "integrations",
    "subsets",
    "training",
    "probes",
    "findings",
    "figures",
    "page",
    "exporters",
    "stages",
    "recipes",
    "api",
    "cli",
]
ROOT = Path(hardness.__file__).parent
# Checking `--by` needs the scores' names, which live with their code: imported when asked, without torch.
ALLOWED = {("settings", "dynamics")}


def parsed() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text()) for path in sorted(ROOT.rglob("*.py"))}


def test_no_module_imports_from_a_line_below_its_own():
    wrong = set()
    for path, tree in parsed().items():
        module = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if module in ("__init__", "__main__"):
            continue
        for node in ast.walk(tree):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("hardness"):
                inner = node.module.removeprefix("hardness").strip(".")
                names = [inner.split(".")[0]] if inner else [alias.name for alias in node.names]
            wrong |= {(module, name) for name in names if ORDER.index(name) > ORDER.index(module)}
    assert wrong == ALLOWED


def test_files_and_functions_stay_small():
    for path, tree in parsed().items():
        assert len(path.read_text().splitlines()) <= 400, path
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 60, (path, node.name)


def test_below_the_stages_ranks_are_passed_not_looked_up():
    """A Recorder in a loop of the user's own finds the process group once, when it is made."""
    found = set()
    for path, tree in parsed().items():
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        names |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        if names & {"launched", "of_process_group", "get_rank", "get_world_size"}:
            found.add(path.relative_to(ROOT).as_posix())
    assert found == {"ranks.py", "dynamics/recorder.py", "stages/track.py", "cli.py"}


def test_a_class_has_a_name_of_its_own():
    names = Counter(
        node.name for tree in parsed().values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)
    )
    assert [name for name, count in names.items() if count > 1] == []


def test_an_error_code_is_in_kebab_case_and_raised_in_one_place():
    calls = [node for tree in parsed().values() for node in ast.walk(tree) if isinstance(node, ast.Call)]
    first = [call.args[0] for call in calls if ast.unparse(call.func) == "UserError" and call.args[1:]]
    codes = [code.value for code in first if isinstance(code, ast.Constant)]
    assert len(codes) == len(set(codes)) > 100
    assert [code for code in codes if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", code)] == []
