"""The replication of Chelombiev et al. in the report."""
