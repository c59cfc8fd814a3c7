"""Commands that work on local files, without Label Studio."""
