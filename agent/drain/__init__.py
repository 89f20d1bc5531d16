"""Proof before goodbye: a notice, a journaled drain of all jobs, a receipt, and only then the answer."""
