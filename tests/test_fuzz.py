"""A hundred damaged files: `python -m tests.fuzz --files 1000` does more of them."""

from tests.fuzz import fuzz


def test_damaged_files_are_whole_or_named(tmp_path):
    counts = fuzz(tmp_path, files=100, seed=0)
    assert counts.total() == 100
    assert counts["named"] > 20
    assert counts["refused"] > 10
    assert counts["unnoticed"] <= 10
