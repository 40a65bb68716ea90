"""The subcommands that need neither verifier nor device; the others lie beside what they start."""
