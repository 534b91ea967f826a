"""What schedules are judged by; one file per objective."""
