"""The command line reads and prints UTF-8 whatever the locale is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

LOCALES = {
    "C": {"LC_ALL": "C"},
    "C as ASCII": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "POSIX": {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "none": {"LC_ALL": "xx_YY.unknown", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "ASCII streams": {"PYTHONIOENCODING": "ascii"},
}
QUESTION = "Wie groß ist 1 + 1? 数"


def forkdiv(folder: Path, env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-m", "jobs.dataset", *arguments, f"place.root={folder}/runs")
    return subprocess.run(
        command,
        env=os.environ | env,
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


@pytest.mark.parametrize("name", LOCALES)
def test_files_names_and_messages_are_utf8_in_any_locale(tmp_path: Path, name: str) -> None:
    path = tmp_path / "größen.jsonl"
    rows = [{"question": f"{QUESTION} {n}", "solution": "zwei – é"} for n in range(9)]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")
    done = forkdiv(tmp_path, LOCALES[name], f"task.train={path}", "task.grader=exact")
    assert (done.returncode, done.stderr) == (0, "")
    assert "UnicodeEncodeError" not in done.stdout
    refused = forkdiv(tmp_path, LOCALES[name], f"task.train={tmp_path}/fehlt-größe.jsonl")
    assert refused.returncode == 2
    assert refused.stderr.startswith("forkdiv: the data file is missing: got ")
    shown = "fehlt-gr\\xf6\\xdfe.jsonl" if name == "ASCII streams" else "fehlt-größe.jsonl"
    assert shown in refused.stderr
    path.write_text(text, encoding="latin-1", errors="replace")
    refused = forkdiv(tmp_path, LOCALES[name], f"task.train={path}", "task.grader=exact")
    assert refused.returncode == 2
    assert "none of its rows can be read; line 1 is not UTF-8 at byte " in refused.stderr
