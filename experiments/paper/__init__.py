"""Figures and tables of the Aladdin paper (arXiv 2405.06856), each beside what the paper reports.

One of them: ``python -m experiments.paper.NAME [--quick] [--jobs N] [--out FOLDER]``; all of them: ``make paper``.
docs/paper.md says what came out.
"""
