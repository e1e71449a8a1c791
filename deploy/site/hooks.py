"""What MkDocs does differently for these pages: links out of docs/, and pages that are not there."""

import os
import posixpath
import re
from typing import Any

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


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Let links that lead out of docs/ lead into the repository, if its address is known; else keep their text."""

    def outward(match: re.Match[str]) -> str:
        text, target = match.groups()
        if not config.repo_url:
            return f"{text} (`{posixpath.normpath(posixpath.join('docs', target))}`)"
        path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page.file.src_uri), target))
        return f"[{text}]({config.repo_url.rstrip('/')}/blob/main/{path})"

    return _LINK.sub(outward, markdown)
