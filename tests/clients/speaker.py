"""Speaks to the endpoint with one official client, as told. Runs in that client's own environment, not in ours.

    python speaker.py elasticsearch|opensearch

Each line of stdin is a call, as JSON: `name` (a method of Elasticsearch's rollup client, or info, ping, usage, search,
msearch, field_caps; or built, a search that the library's own builders make), `arguments`, and `url`, `token` and
`patience` (seconds) of the client to use. Each line of stdout tells its outcome.
"""

import json
import logging
import re
import sys
import time
import warnings
from urllib.parse import quote, urlencode

SENT = re.compile(r"^(\S+) .*\[status:(\S+) ", re.DOTALL)
"""What every client logs about each request that it has sent."""


PATHS = {
    "info": ("GET", "/"),
    "ping": ("HEAD", "/"),
    "usage": ("GET", "/_xpack/usage"),
    "put_job": ("PUT", "/_rollup/job/{id}"),
    "get_jobs": ("GET", "/_rollup/job/{id}"),
    "delete_job": ("DELETE", "/_rollup/job/{id}"),
    "start_job": ("POST", "/_rollup/job/{id}/_start"),
    "stop_job": ("POST", "/_rollup/job/{id}/_stop"),
    "preview": ("POST", "/_rollup/job/_preview"),
    "get_rollup_caps": ("GET", "/_rollup/data/{id}"),
    "get_rollup_index_caps": ("GET", "/{index}/_rollup/data"),
    "rollup_search": ("POST", "/{index}/_rollup_search"),
}

SEARCHES = ("search", "msearch", "field_caps")
"""Methods of the client itself."""


class ElasticsearchClient:
    """The client of Elasticsearch, 7 to 9."""

    def __init__(self, url, token, patience):
        import elasticsearch

        self.major = elasticsearch.__version__[0]
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if self.major == 7:
            # This one knows no bearer tokens, so its users give the header.
            self.client = elasticsearch.Elasticsearch([url], headers=headers, timeout=patience)
        else:
            bearer = {"bearer_auth": token} if token else {}
            self.client = elasticsearch.Elasticsearch(url, **bearer, request_timeout=patience)

    def call(self, name, arguments):
        if name == "built":
            return built(self._builders(), self.client, **arguments)
        if name in ("info", "ping"):
            return getattr(self.client, name)(**arguments)
        if name == "preview":  # not Elasticsearch's, so its users name method and path, too
            method, path = PATHS[name]
            kind = f"application/vnd.elasticsearch+json; compatible-with={self.major}"
            headers = {"accept": kind, "content-type": kind}
            if self.major == 7:
                return self.client.transport.perform_request(method, path, headers=headers, body=arguments["body"])
            return self.client.perform_request(method, path, headers=headers, body=arguments["body"])
        if name == "usage":
            return self.client.xpack.usage(**arguments)
        if self.major > 7 and "body" in arguments:
            arguments = dict(arguments)
            body = arguments.pop("body")
            arguments |= {"searches": body} if name == "msearch" else body
        return getattr(self.client if name in SEARCHES else self.client.rollup, name)(**arguments)

    def _builders(self):
        if self.major == 7:
            import elasticsearch_dsl as builders
        else:
            import elasticsearch.dsl as builders
        return builders


class OpenSearchClient:
    """The client of OpenSearch, which has no methods for these calls: its users name method and path."""

    def __init__(self, url, token, patience):
        import opensearchpy

        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.client = opensearchpy.OpenSearch([url], headers=headers, timeout=patience)

    def call(self, name, arguments):
        if name == "built":
            import opensearchpy

            return built(opensearchpy, self.client, **arguments)
        if name in SEARCHES:
            return getattr(self.client, name)(**arguments)
        method, path = PATHS[name]
        arguments = dict(arguments)
        body = arguments.pop("body", None)
        parts = {part: quote(arguments.pop(part, ""), safe="") for part in ("id", "index")}
        # In the URL, because the transport takes a parameter `timeout` for its own.
        query = {key: str(value).lower() if isinstance(value, bool) else value for key, value in arguments.items()}
        url = path.format(**parts) + (f"?{urlencode(query)}" if query else "")
        return self.client.transport.perform_request(method, url, body=body)


def built(builders, client, index, begin, end, sites):
    """Search by objects, alone and as one of several; return what the answers' objects say."""
    search = builders.Search(using=client, index=index).filter("range", picked_up={"gte": begin, "lt": end})
    search = search.query(builders.Q("terms", site=sites) | builders.Q("term", gate=1))[0:0]
    days = search.aggs.bucket("days", "date_histogram", field="picked_up", calendar_interval="day")
    days.metric("mean", "avg", field="size").pipeline("change", "derivative", buckets_path="mean")
    days.bucket("sites", builders.A("terms", field="site", order={"heaviest": "desc"})).metric(
        "heaviest", "max", field="size"
    )
    search.aggs.pipeline("best", "max_bucket", buckets_path="days>mean")
    alone = search.execute()
    several = list(
        builders.MultiSearch(using=client, index=index).add(search).add(search.filter("term", gate=2)).execute()
    )
    return {
        "success": [alone.success(), *(one.success() for one in several)],
        "totals": [one.hits.total.value for one in (alone, *several)],
        "alike": several[0].aggregations.to_dict() == alone.aggregations.to_dict(),
        "best": [alone.aggregations.best.value, list(alone.aggregations.best["keys"])],
        "days": [
            {
                "count": day.doc_count,
                "text": day.key_as_string,
                "mean": day.mean.value,
                "change": day.change.value if "change" in day else None,
                "sites": {site.key: [site.doc_count, site.heaviest.value] for site in day.sites.buckets},
            }
            for day in alone.aggregations.days
        ],
    }


KINDS = {"elasticsearch": ElasticsearchClient, "opensearch": OpenSearchClient}


class Sent(logging.Handler):
    """Collects method and status of each request that a client sends, repeats included."""

    def __init__(self):
        super().__init__()
        self.requests = []

    def emit(self, record):
        self.requests += [" ".join(found) for found in SENT.findall(record.getMessage())]


def outcome(client, name, arguments):
    """Carry out one call and describe what its caller sees."""
    begun = time.monotonic()
    sent = Sent()
    root = logging.getLogger()
    root.addHandler(sent)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            answer = client.call(name, arguments)
            result = {"answer": getattr(answer, "body", answer)}
        except Exception as e:
            result = {
                "raised": [kind.__name__ for kind in type(e).__mro__],
                "status": getattr(e, "status_code", None),
                "error": str(getattr(e, "error", "")),
                "info": getattr(e, "info", None),
                "text": str(e),
            }
    root.removeHandler(sent)
    result["seconds"] = time.monotonic() - begun
    result["sent"] = sent.requests
    result["warnings"] = [[w.category.__name__, str(w.message)] for w in warned]
    return result


def main():
    kind = KINDS[sys.argv[1]]
    logging.getLogger().setLevel(logging.INFO)
    clients = {}
    for line in sys.stdin:
        order = json.loads(line)
        wanted = (order["url"], order["token"], order["patience"])
        if wanted not in clients:
            clients[wanted] = kind(*wanted)
        result = outcome(clients[wanted], order["name"], order["arguments"])
        print(json.dumps(result, default=repr), flush=True)


if __name__ == "__main__":
    main()
