from hardness.paths import is_hidden, matching


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def below(root, pattern):
    return [path.removeprefix(f"{root}/") for path in matching(f"{root}/{pattern}")]


def test_a_name_is_tried_literally_before_it_is_a_pattern(tmp_path):
    touch(tmp_path, "data[1]/x*.tar", "data[1]/xy.tar", "data1/z.tar")
    assert below(tmp_path, "data[1]/x*.tar") == ["data[1]/x*.tar"]
    assert below(tmp_path, "data[1]/*.tar") == ["data[1]/x*.tar", "data[1]/xy.tar"]
    (tmp_path / "data[1]/x*.tar").unlink()
    assert below(tmp_path, "data[1]/x*.tar") == ["data[1]/xy.tar"]


def test_matches_are_sorted_and_not_hidden(tmp_path):
    touch(tmp_path, "b/2.tar", "a-c/1.tar", "a/3.tar", "a/._3.tar", "__MACOSX/4.tar", "b/5.txt")
    assert below(tmp_path, "*/*.tar") == ["a-c/1.tar", "a/3.tar", "b/2.tar"]
    assert below(tmp_path, "*/9.tar") == []
    assert matching("") == []


def test_relative_patterns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "a/1.tar")
    assert matching("a/*.tar") == ["a/1.tar"]


def test_names_that_are_hidden():
    hidden = (".git", "._a.png", "@eaDir", "__MACOSX", "Thumbs.db", "THUMBS.DB", "desktop.ini", ".DS_Store")
    assert all(map(is_hidden, hidden))
    assert not any(map(is_hidden, ("cat", "a.png", "eaDir", "thumbs", "MACOSX", "@cat")))
