"""Work on files of this machine, without Label Studio."""
