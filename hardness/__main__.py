from hardness.cli import main

main()
