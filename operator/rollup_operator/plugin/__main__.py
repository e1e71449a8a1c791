from rollup_operator.plugin.main import main

main()
