"""Pages of the site that are made of something else: README, notebooks, the help of commands, the changelog."""

from __future__ import annotations

import argparse
import base64
import os
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


SECTIONS = {".": "Guides", "guides": "Guides", "concepts": "Concepts", "api": "API"}
"""Where pages of a folder belong; a folder that is not here is a section of its own."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Pages that mkdocs.yml does not list have their places, too: tutorials, rooms, and what is new."""
    sections = {name: entry for one in config.nav for name, entry in one.items()}
    sections["Tutorials"] += [f"tutorials/{path.stem}.md" for path in NOTEBOOKS]
    listed = {
        page if isinstance(page, str) else next(iter(page.values())) for one in sections.values() for page in one
    }
    docs = ROOT / "docs"
    pages = sorted(docs.rglob("*.md"), key=lambda path: (path.parent, path.name != "README.md", path.name))
    for page in pages:
        uri = page.relative_to(docs)
        if str(uri) in listed:
            continue
        folder = str(uri.parent)
        section = SECTIONS.get(folder, folder.capitalize())
        if section not in sections:
            sections[section] = []
            config.nav.append({section: sections[section]})
        sections[section].append(str(uri))
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The pages themselves."""

    def add(uri: str, content: str | bytes) -> None:
        files.append(File.generated(config, uri, content=content))

    add("index.md", readme((ROOT / "README.md").read_text(encoding="utf-8")))
    add("changelog.md", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").replace("](docs/", "]("))
    add("command-line.md", command_line())
    titles = []
    for path in NOTEBOOKS:
        text, pictures = notebook(path)
        titles.append(f"- [{re.search(r'^# (.*)$', text, re.MULTILINE)[1]}]({path.stem}.md)")
        add(f"tutorials/{path.stem}.md", text)
        for name, data in pictures.items():
            add(f"tutorials/{name}", data)
    told = "Each is a notebook in `notebooks/`, shown here as it ran."
    add("tutorials/index.md", "\n".join(["# Tutorials", "", told, "", *titles, ""]))
    return files


def readme(text: str) -> str:
    """The README as the first page: what it links to lies elsewhere from here."""
    text = text.replace("](docs/", "](").replace("](CHANGELOG.md", "](changelog.md")
    text = re.sub(r"\]\(notebooks/([\w-]+)\.ipynb\)", r"](tutorials/\1.md)", text)
    return re.sub(r"\[([^\]]*)\]\((?!https?:|#)(?![\w/-]+\.(?:md|png)(?:#[\w-]+)?\))[^)]*\)", r"\1", text)


def command_line() -> str:
    """The help of every command."""
    sys.path.insert(0, str(ROOT))
    os.environ["COLUMNS"] = "110"
    from torchscape.cli.parser import build_parser  # which imports no torch

    parser = build_parser()
    commands = next(one for one in parser._actions if isinstance(one, argparse._SubParsersAction))
    parts = ["# The command line", "", "```text", parser.format_help().rstrip(), "```"]
    for name, command in commands.choices.items():
        parts += ["", f"## torchscape {name}", "", "```text", command.format_help().rstrip(), "```"]
    return "\n".join(parts) + "\n"


def notebook(path: Path) -> tuple[str, dict[str, bytes]]:
    """A notebook as a page, and its pictures by their names."""
    import nbformat

    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for number, cell in enumerate(nbformat.read(path, as_version=4).cells):
        if cell.cell_type == "markdown":
            parts.append(with_formulas(cell.source.replace("](../docs/", "](../")))
        elif cell.cell_type == "code" and cell.source:
            parts.append(f"```python\n{cell.source}\n```")
            for k, output in enumerate(cell.outputs):
                parts += _output(output, f"{path.stem}_{number}_{k}.png", pictures)
    return "\n\n".join(parts) + "\n", pictures


def with_formulas(text: str) -> str:
    """Formulas between dollar signs as MathML, which browsers draw by themselves; what is code stays code."""
    from latex2mathml.converter import convert

    def drawn(found: re.Match[str]) -> str:
        code, display, inline = found.groups()
        if code:
            return code
        return convert(" ".join((display or inline).split()), display="block" if display else "inline")

    return re.sub(r"(`[^`]*`)|\$\$(.+?)\$\$|\$([^$\n]+)\$", drawn, text, flags=re.DOTALL)


def _output(output: Any, name: str, pictures: dict[str, bytes]) -> list[str]:
    """What a cell has shown: a picture, or text."""
    data = output.get("data", {})
    if "image/png" in data:
        pictures[name] = base64.b64decode(data["image/png"])
        return [f"![what the cell above draws]({name})"]
    text = output.get("text") if output.output_type == "stream" else data.get("text/plain")
    if not text or output.get("name") == "stderr":
        return []
    return [f"```text\n{text.rstrip()}\n```"]
