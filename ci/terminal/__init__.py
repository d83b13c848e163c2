"""What a person sees, how processes are started, and what signals do."""
