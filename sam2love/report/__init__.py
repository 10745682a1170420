"""One HTML page about a run, for a researcher to read: `page.write_report`."""
