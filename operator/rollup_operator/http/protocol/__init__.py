"""Elasticsearch's HTTP dialect: parameters, bodies, answers and errors."""
