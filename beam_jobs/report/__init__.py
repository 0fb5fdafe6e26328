"""`report.html`: one night on one page that needs no network, for the people who have to trust its table."""
