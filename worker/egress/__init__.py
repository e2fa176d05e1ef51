"""What alone opens connections to the outside."""
