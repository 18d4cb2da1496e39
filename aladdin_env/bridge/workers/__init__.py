"""The workers behind the bridge: what one is, how it is watched, and how workers come and go.

Importing this package costs nothing: each module fetches the library that it needs when it is first used.
"""
