"""What every command shares: flags, --help, one-line errors."""
