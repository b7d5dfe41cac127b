"""Reports: siblings that turn verdicts and bin tables into lines of text, testable alone."""
