"""What a suite came to: its result on disk, and the reports made of many."""
