"""The full-screen dashboard: `look` reads, `view` makes lines of it, `app` shows them and takes keys.

Only `app` and `canvas` need Textual, which is an extra.
"""
