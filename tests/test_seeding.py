from hardness import seeding


def test_streams_are_repeatable_and_independent():
    def draw(*stream):
        return seeding.generator(*stream).integers(2**62)

    assert draw(0, "order", 1) == draw(0, "order", 1)
    assert len({draw(0, "order", 1), draw(0, "order", 2), draw(1, "order", 1), draw(0, "init", 1)}) == 4
    assert 0 <= seeding.derive(3, "x") < 2**32
