"""Bundles (model, index and manifest in one directory), the server that answers from them and its client."""
