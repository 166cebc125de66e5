"""What any work runs on: device, seeds, progress, optional packages."""
