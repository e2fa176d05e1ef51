"""How fast Pointsman is beside a bare pipeline: `make bench`. Never a test."""
