"""What the API and the workers both need."""

VERSION = "0.1.0"
