"""Renders deploy/ with the real helm and kustomize, and writes those parts of it that follow from others."""
