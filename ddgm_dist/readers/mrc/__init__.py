"""MRC and MRC-like files: the meaning of their headers, and their pixels."""
