"""The files beside a result: lease, run record, receipts, checkpoints."""
