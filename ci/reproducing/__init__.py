"""Scripts that show a failure or a hazard without this project: made from what a test ran and saw on a cell."""
