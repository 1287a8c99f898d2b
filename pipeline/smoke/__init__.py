"""Run the model on real pictures, in a guarded process, and judge what it says."""
