"""Experiments with live routers."""
