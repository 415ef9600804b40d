"""Folders of runs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from stapo_pl.training.runs import next_run_folder


def test_starts_at_once_take_folders_of_their_own(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: next_run_folder(tmp_path / "x"), range(32)))
    assert len(set(folders)) == 32 and all(folder.is_dir() for folder in folders)
