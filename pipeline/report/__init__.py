"""What a run tells people: figures, sentences, pictures."""
