"""Cells of result tables."""


def format_score(value: float | None) -> str:
    """Format a score with two digits after the point; "-" for None (a mean over no class)."""
    return '-' if value is None else f'{value:.2f}'
