"""Whatever meets a human, or stands in for one: label sets, batch files, the terminal, the inbox, the oracle."""
