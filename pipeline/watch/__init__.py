"""From the create to the end of the training: look, forecast, wait, cancel."""
