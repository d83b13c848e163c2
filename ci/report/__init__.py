"""What many records come to: they are found, chosen from and merged, and the report is shown in several forms."""
