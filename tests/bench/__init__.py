"""`make bench`: ratios, measured side by side in one run. docs/performance.md says what each means."""
