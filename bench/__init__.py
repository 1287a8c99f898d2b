"""What the performance claims are measured with: one script a claim, each run by hand."""
