"""Why a search is refused. Pure."""


class SearchRefused(Exception):
    """The request is refused: 400, with a reason in Elasticsearch's form."""

    def __init__(self, reason: str, kind: str = "illegal_argument_exception") -> None:
        super().__init__(reason)
        self.reason, self.kind = reason, kind
