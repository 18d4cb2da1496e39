"""Policies in front of live workers."""
