"""What any message of the three protocols says, for a person: found in a paste, read, and checked without secrets."""
