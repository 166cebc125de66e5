"""For MkDocs: links from a page to files outside docs/ lead to the repository, and their pictures come along."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

LINK = re.compile(r"(\]\()((?:\.\./)+)([^)#\s]+)(#[^)\s]+)?\)")
PICTURES = ".png", ".svg"


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files, **_: Any) -> str:
    """Rewrite `](../src/x.py)` to the file's page in the repository, and `](../x.png)` to a copy on the site."""
    root = Path(config.config_file_path).parent

    def outside(match: re.Match[str]) -> str:
        target = (Path(page.file.abs_src_path or "").parent / match[2] / match[3]).resolve()
        path = target.relative_to(root).as_posix()
        if target.is_relative_to(Path(config.docs_dir)):
            return match[0]
        if target.suffix in PICTURES:
            name = f"pictures/{path.replace('/', '-')}"
            if name not in files.src_uris:
                files.append(File.generated(config, name, abs_src_path=str(target)))
            return f"{match[1]}{'../' * page.file.src_uri.count('/')}{name})"
        kind = "tree" if target.is_dir() else "blob"
        return f"{match[1]}{config.repo_url}{kind}/main/{path}{match[4] or ''})"

    return LINK.sub(outside, markdown)
