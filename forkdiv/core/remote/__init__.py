"""A store of results on S3-compatible storage: objects, leases, and a bounded cache of files."""
