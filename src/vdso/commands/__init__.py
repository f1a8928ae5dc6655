"""One module a subcommand; each has HELP and main(arguments)."""
