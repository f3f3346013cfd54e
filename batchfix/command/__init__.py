"""The subcommands of `batchfix`: files and options in, a corrected file and a summary out."""
