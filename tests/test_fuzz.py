"""Fifty damaged files: `python -m tests.fuzz --files 1000` does more of them."""

from tests.fuzz import fuzz


def test_damaged_files_are_whole_or_named(tmp_path):
    counts = fuzz(tmp_path, files=50, seed=0)
    assert counts.total() == 50
    assert counts["named"] > 10
    assert counts["refused"] > 5
    assert counts["unnoticed"] <= 5
