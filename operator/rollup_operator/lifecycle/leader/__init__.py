"""Which replica acts, and for how long it may."""
