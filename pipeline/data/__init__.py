"""What a model is trained on: read, checked and described before anything is paid for."""
