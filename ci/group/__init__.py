"""Many cells: what is run of a group, its images, its cells side by side, and what need not run again."""
