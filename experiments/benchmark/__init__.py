"""The benchmark: where its rates come from, results, a template for submissions."""
