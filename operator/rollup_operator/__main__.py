from rollup_operator.cli import main

main()
