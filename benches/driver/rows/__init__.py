"""One file for each group of rows; each has run(bench, report)."""


def ratios(above, below):
    """Divides round by round, so that conditions common to one round cancel out."""
    return [one / other for one, other in zip(above, below)]


def per_round(reports, key):
    """Returns one figure of each round."""
    return [report[key] for report in reports]
