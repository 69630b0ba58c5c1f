"""Retention: what is older than its class may be kept goes, tenant by tenant, with an audit row a batch."""
