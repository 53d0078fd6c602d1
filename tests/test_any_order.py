"""The tables are right after anything that an archive, a machine or a person does, in any order.

A rule machine changes an archive and a results folder at will, and runs the whole bookkeeping over
them (`tests.bookkeeping`).
"""

import os
import shutil

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from tests.bookkeeping import Archive, killed_at, make_contents

NAMES = st.sampled_from(["a.mp4", "b.mp4", "c.mkv", "sub/d.mp4"])
CONTENTS = st.sampled_from(["one", "two", "three", "cut", "text"])
TABLES = st.sampled_from(
    ["trajectories", "videos", "manifests", "quarantine", "runs", "staging", "events"]
)


@pytest.mark.parametrize("sequences", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_any_order_of_events(tmp_path, monkeypatch, sequences):
    monkeypatch.setattr(os, "fsync", lambda _: None)  # nothing here outlives a power cut anyway
    contents = make_contents(tmp_path / "contents")
    folders = (tmp_path / str(i) for i in range(10**9))

    class Events(RuleBasedStateMachine):
        def __init__(self):
            super().__init__()
            self.root = next(folders)
            self.archive = Archive(self.root, contents)
            self.archive.put("a.mp4", "one")

        def teardown(self):
            shutil.rmtree(self.root)

        @rule(name=NAMES, content=CONTENTS)
        def add_or_replace(self, name, content):
            self.archive.put(name, content)

        @rule(name=NAMES, other=NAMES, move=st.booleans())
        def copy_or_rename(self, name, other, move):
            source, target = self.archive.folder / name, self.archive.folder / other
            if source.exists() and source != target:
                target.parent.mkdir(exist_ok=True)
                (shutil.move if move else shutil.copy2)(source, target)

        @rule(name=NAMES)
        def delete(self, name):
            (self.archive.folder / name).unlink(missing_ok=True)

        @rule(name=NAMES)
        def grow(self, name):
            path = self.archive.folder / name
            if path.exists() and path.read_bytes() == contents["cut"]:
                self.archive.put(name, "three")

        @rule(folder=TABLES, place=st.floats(0, 0.99), cut=st.booleans(), which=st.integers(0, 3))
        def damage(self, folder, place, cut, which):
            files = sorted((self.archive.out / folder).rglob("*.*"))
            if files:
                path = files[which % len(files)]
                content = bytearray(path.read_bytes())
                content[int(place * len(content))] ^= 0x55
                path.write_bytes(content[: int(place * len(content))] if cut else content)

        @rule(folder=TABLES, which=st.integers(0, 3))
        def lose(self, folder, which):
            files = sorted((self.archive.out / folder).rglob("*.*"))
            if files:
                files[which % len(files)].unlink()

        @rule(writes=st.integers(1, 40), fresh=st.booleans(), retry=st.booleans())
        def interrupted(self, writes, fresh, retry):
            if self.archive.files():
                with killed_at(writes, self.archive.out):
                    self.archive.run(fresh=fresh, retry_quarantined=retry)

        @rule(name=NAMES)
        def track_one(self, name):
            if (self.archive.folder / name).exists():
                self.archive.run(name)

        @rule(fresh=st.booleans(), retry=st.booleans())
        def track(self, fresh, retry):
            if self.archive.files():
                self.archive.check(self.archive.run(fresh=fresh, retry_quarantined=retry))
                again = self.archive.run()
                assert again.frames == 0
                self.archive.check(again)

    run_state_machine_as_test(
        Events,
        settings=settings(
            max_examples=sequences,
            stateful_step_count=6,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
