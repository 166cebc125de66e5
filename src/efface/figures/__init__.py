"""Charts: bars, curves, histograms, heat maps and points, from plain numbers; they know no audit and no comparison."""
