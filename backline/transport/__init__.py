"""How Backline reaches hosts, programs and files. Nothing here decides what to do with them."""
