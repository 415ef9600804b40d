"""The files that an evaluation keeps on disk. A kill of the process loses no written line.

<folder>/model.json            the model, and the settings that hold for the whole folder
<folder>/results.json, results.md
<folder>/<benchmark>/<decoding>/
    benchmark.json             the task, the number of samples and the decoding
    problems.jsonl             the problems with their answers
    completions-<rank>.jsonl   the responses that this rank sampled
    scores.jsonl               the scores that the reward gave them
    verifier/completions-<rank>.jsonl, verdicts.jsonl  the replies and verdicts of a verifier
"""

from __future__ import annotations

import ast
import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from stapo_pl.core.errors import ConfigError
from stapo_pl.core.types import Problem, Response, Score

Place = tuple[int, ...]
"""The number of the problem, the number of the sample, and, if the prompt can change, a checksum
of the prompt."""
_PLACE = ("problem", "sample", "prompt")


class Journal:
    """A file to which lines are appended, one for each sample.

    The first line holds the settings that all others depend on. If a file was started with other
    settings, it is refused. If the last line is incomplete because the process was killed, that
    line is dropped.

    Args:
        file: the file. It need not exist.
        settings: the settings that the lines depend on.
    """

    def __init__(self, file: Path, settings: dict[str, Any]) -> None:
        self.file, self.settings = file, json.loads(json.dumps(settings))
        self._end: int | None = None

    def append(self, lines: dict[Place, dict[str, Any]]) -> None:
        """Appends lines by their places. They are on disk when this returns."""
        if self._end is None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self.file.touch()
            self._end = len(self._whole_lines())
        with open(self.file, "r+b") as file:
            file.truncate(self._end)
            file.seek(self._end)
            named = [dict(zip(_PLACE, place, strict=False)) | line for place, line in lines.items()]
            for line in named if self._end else [self.settings, *named]:
                file.write(json.dumps(line).encode() + b"\n")
            self._end = file.tell()
            file.flush()
            os.fsync(file.fileno())

    def read(self) -> dict[Place, dict[str, Any]]:
        """Returns all lines by their places.

        Raises:
            ConfigError: the file was made with other settings.
        """
        whole = self._whole_lines()
        if not whole:
            return {}
        first, *lines = map(json.loads, whole.splitlines())
        check_same(self.file, first, self.settings)
        return {tuple(line[key] for key in _PLACE if key in line): line for line in lines}

    def _whole_lines(self) -> bytes:
        content = self.file.read_bytes() if self.file.exists() else b""
        return content[: content.rfind(b"\n") + 1]


def check_same(file: Path, there: dict[str, Any], settings: dict[str, Any]) -> None:
    """Raises ConfigError if a file was made with other settings.

    Args:
        file: the file, for the message.
        there: the settings that the file holds.
        settings: the settings that it should hold.
    """
    for key, value in settings.items():
        if there.get(key) != value:
            raise ConfigError(
                f"{file} was made with {key}={there.get(key)}, not {value}: set run.name for "
                "another folder, or delete it"
            )


def read_completions(folder: Path, places: Sequence[Place]) -> list[Response]:
    """Returns the responses that were sampled at these places, in the same order.

    Raises:
        ConfigError: some places have no response yet.
    """
    lines: dict[Place, dict[str, Any]] = {}
    for file in completion_files(folder):
        lines |= Journal(file, {}).read()
    if missing := sum(place not in lines for place in places):
        raise ConfigError(
            f"{folder}: {missing} of {len(places)} completions are missing; the command that "
            "samples them, without grade, goes on"
        )
    chosen = (lines[place] for place in places)
    return [Response(line["text"], line["tokens"], line["truncated"]) for line in chosen]


def write_scores(file: Path, places: Sequence[Place], scores: Sequence[Score]) -> None:
    """Writes one line for each score."""
    write(
        file,
        "".join(
            json.dumps({"problem": problem, "sample": sample, **asdict(score)}) + "\n"
            for (problem, sample), score in zip(places, scores, strict=True)
        ),
    )


def read_scores(file: Path) -> list[Score]:
    """Reads what `write_scores` wrote, in the same order."""
    lines = map(json.loads, file.read_bytes().splitlines())
    names = [field.name for field in fields(Score)]
    return [Score(**{name: line[name] for name in names}) for line in lines]


def write_verdicts(file: Path, places: Sequence[Place], verdicts: Iterable[str]) -> None:
    """Writes one line for each verdict of a verifier, which is A, B or C."""
    lines = (
        dict(zip(_PLACE, place, strict=True)) | {"verdict": verdict}
        for place, verdict in zip(places, verdicts, strict=True)
    )
    write(file, "".join(json.dumps(line) + "\n" for line in lines))


def read_accepted(file: Path) -> set[Place]:
    """Reads the problem and sample numbers of all responses that a verifier accepts."""
    lines = map(json.loads, file.read_bytes().splitlines())
    return {(line["problem"], line["sample"]) for line in lines if line["verdict"] == "A"}


def write_problems(file: Path, problems: Iterable[Problem]) -> None:
    """Writes one line for each problem, so that `read_problems` returns equal problems.

    `Problem.extra` may hold values that JSON does not have, such as tuples. It is then written as a
    Python literal.

    Raises:
        ConfigError: a problem cannot be written in either way.
    """
    lines = []
    for problem in problems:
        for write_extra, read_extra in ((json.dumps, json.loads), (repr, ast.literal_eval)):
            with suppress(TypeError, ValueError, SyntaxError):
                extra = write_extra(problem.extra)
                # The comparison is between texts, because NaN is not equal to NaN.
                if repr(read_extra(extra)) == repr(problem.extra):
                    break
        else:
            raise ConfigError(
                f"{problem.place}: its extra cannot be kept in a file, it holds more than numbers, "
                f"text, lists, tuples, sets and dictionaries: {str(problem.extra)[:200]}"
            )
        kept = problem.extra if write_extra is json.dumps else extra
        lines.append(json.dumps(vars(problem) | {"extra": kept}) + "\n")
    write(file, "".join(lines))


def read_problems(file: Path) -> list[Problem]:
    """Reads what `write_problems` wrote.

    Raises:
        ConfigError: there is no such file.
    """
    if not file.is_file():
        raise ConfigError(f"{file}: no such file; it is not the folder of an evaluation")
    problems = [Problem(**row) for row in map(json.loads, file.read_bytes().splitlines())]
    for problem in problems:
        if isinstance(problem.extra, str):
            problem.extra = ast.literal_eval(problem.extra)
    return problems


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other evaluations from writing to a folder while the block runs.

    Raises:
        ConfigError: another evaluation is writing to the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"{folder}: another evaluation writes there; set run.name") from None
        yield


def completion_files(folder: Path) -> list[Path]:
    """Returns the files of completions of all ranks that have sampled."""
    return sorted(folder.glob("completions-*.jsonl"))


def write(file: Path, text: str) -> None:
    """Replaces a file. If the process is killed meanwhile, the old file stays complete."""
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_suffix(".new")
    new.write_text(text)
    os.replace(new, file)
