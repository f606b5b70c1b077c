"""One file for each group of rows; each has run(bench, report)."""


def ratios(above, below):
    """Round by round, since what both share in a round does not count."""
    return [one / other for one, other in zip(above, below)]


def of(reports, key):
    """One figure of each round."""
    return [report[key] for report in reports]
