"""What stands beside a result: lease, run record, receipts, checkpoints."""
