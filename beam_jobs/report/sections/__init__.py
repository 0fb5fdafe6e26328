"""The sections of the report, one module each: from a night's files to the parts that the templates show."""
