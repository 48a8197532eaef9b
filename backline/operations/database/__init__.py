"""The database cluster, seen and handed over from the controller; hosts refuse what is a risk once more."""
