"""Many cells: the plan of a group, its images, its cells side by side, and earlier results that are taken again."""
