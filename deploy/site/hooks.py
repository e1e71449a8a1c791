"""What MkDocs does differently for these pages: the first one, links out of docs/, and pages that are not there."""

import os
import posixpath
import re
from typing import Any

_DOCS = re.compile(r"\]\(docs/([^)\s]+)")
_LINK = re.compile(r"\[([^\]]+)\]\((\.\./[^)\s]+)\)")


def on_config(config: Any) -> Any:
    """Leave pages out of the navigation whose file does not exist."""

    def there(item: Any) -> bool:
        if isinstance(item, str):
            return os.path.exists(os.path.join(config.docs_dir, item))
        (inner,) = item.values()
        if isinstance(inner, list):
            inner[:] = [each for each in inner if there(each)]
            return bool(inner)
        return there(inner)

    config.nav = [item for item in config.nav if there(item)]
    return config


def first_screen() -> str:
    """Return the README up to its third heading, with links as they are from docs/."""
    with open("README.md", encoding="utf-8") as file:
        head = "## ".join(file.read().split("\n## ")[:2])
    within = _DOCS.sub(r"](\1", head)
    return re.sub(r"\]\((?![a-z]+:|#|[\w-]+\.(?:md|yaml|png))", "](../", within)


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Begin the first page as the README begins, and let links that lead out of docs/ lead into the repository.

    If the repository's address is not known, such links keep their text.
    """
    if page.file.src_uri == "README.md":
        markdown = f"{first_screen()}\n\n{markdown.replace('# Documentation', '## All pages', 1)}"

    def outward(match: re.Match[str]) -> str:
        text, target = match.groups()
        if not config.repo_url:
            return f"{text} (`{posixpath.normpath(posixpath.join('docs', target))}`)"
        path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page.file.src_uri), target))
        return f"[{text}]({config.repo_url.rstrip('/')}/blob/main/{path})"

    return _LINK.sub(outward, markdown)
