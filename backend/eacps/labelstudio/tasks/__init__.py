"""What a task of Label Studio says."""
