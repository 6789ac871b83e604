"""The report of a study: its summary in, one HTML page and PNG figures out. Pure: no cluster."""
