"""Every python and bash block of README.md and docs/*.md runs, unless an HTML comment just above says why not.

A document becomes one script, its python blocks at their own lines (so that a traceback points into the document), each
bash block a call where its fence opens. It runs in an empty folder: blocks may build on those before them.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
FENCE = re.compile(r"^```(\w*)\s*$")
OPT_OUT = re.compile(r"^<!-- not run: \S.* -->$")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)#\s]+)[^)]*\)")
SECONDS = 300


def script(text: str) -> str:
    """The runnable blocks of a document as a Python script of as many lines."""
    out: list[str] = []
    language, run, opened, block = "", False, 0, []
    above = ""
    for number, line in enumerate(text.splitlines()):
        fence = FENCE.match(line)
        out.append("")
        if not opened and fence:
            language, run, opened, block = fence[1], not OPT_OUT.match(above), number + 1, []
        elif opened and fence:
            if run and language == "bash":
                call = ["bash", "-euo", "pipefail", "-c", "\n".join(block)]
                out[opened - 1] = f"__import__('subprocess').run({call!r}, check=True)"
            opened = 0
        elif opened:
            block.append(line)
            out[-1] = line if run and language == "python" else ""
        if line.strip():
            above = line.strip()
    return "\n".join(out) + "\n"


def test_the_script_keeps_lines_and_opt_outs() -> None:
    kept = "a\n```python\nx = 1\n```\n"
    text = kept + "<!-- not run: needs a GPU -->\n\n```bash\nfalse\n```\n```bash\ntrue\n```\n```\nplain\n```\n"
    lines = script(text).splitlines()
    assert len(lines) == len(text.splitlines())
    assert lines[2] == "x = 1" and "'true'" in lines[9] and "false" not in script(text) and "plain" not in script(text)


WITH_CODE = [path for path in DOCUMENTS if script(path.read_text(encoding="utf-8")).strip()]


@pytest.mark.slow
@pytest.mark.parametrize("document", WITH_CODE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_code_blocks_run(document: Path, tmp_path: Path) -> None:
    source = script(document.read_text(encoding="utf-8"))
    file = tmp_path / f"{document.stem}.py"
    file.write_text(source, encoding="utf-8")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    done = subprocess.run(
        [sys.executable, file.name],
        cwd=tmp_path,
        env={**os.environ, "PATH": path, "MPLBACKEND": "agg", "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, f"{document.name}:\n{done.stdout[-3000:]}\n{done.stderr[-5000:]}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_into_the_repository_lead_somewhere(document: Path) -> None:
    links = [link for link in LINK.findall(document.read_text(encoding="utf-8")) if "://" not in link]
    assert [link for link in links if not (document.parent / link).exists()] == []
