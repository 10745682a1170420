"""Report a run as one HTML page: `page.write_report`."""
