"""How schedules are judged: each function measures one thing and returns it as a row of results."""
