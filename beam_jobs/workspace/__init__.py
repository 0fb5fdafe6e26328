"""Files of a job's workspace, local or on Cloud Storage: how they are kept, locked, and what a night leaves in them."""
