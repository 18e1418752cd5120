"""Findings and figures -> one page, summary.json and summary.md."""
