"""Measuring a vLLM engine from inside, iteration by iteration.

``plan`` says what to run, ``recorder`` runs it under the interpreter that has vLLM and writes one line per engine step
(both need nothing but the standard library, and vLLM), ``measure`` starts the recorder and makes a measurement of what
it wrote.
"""
