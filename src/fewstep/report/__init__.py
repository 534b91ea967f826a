"""The report: tables, plots and sentences made from one `results.csv` alone, and the page that holds them."""
