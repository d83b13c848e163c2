"""What results answer: how two cells differ, and whether a combination works."""
