"""`python -m tracknet`, the same as the command `tracknet`."""

from tracknet.commands.main import main

main()
