"""`python -m edgesvit`."""

from edgesvit.cli import main

main()
