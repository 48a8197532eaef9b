"""What is done to a fleet besides rolling out releases."""
