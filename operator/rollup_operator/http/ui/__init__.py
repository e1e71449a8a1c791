"""The page: what the endpoint shows to people in a browser, under `/ui/`. Rights and code paths are the API's.

```
  browser ─▶ guard ─▶ who calls: `Authorization` of a proxy, or the session's cookie ─▶ the caller's right ─▶ a view
             headers,                                                                                        │
             same origin                          pure: what to show of a job, and of all ◀──────────────────┤
                                                  templates ─▶ HTML ◀────────────────────────────────────────┘
```
"""
