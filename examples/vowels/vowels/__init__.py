"""Is this letter a vowel? A service that answers, takes in what happens, and shows it live."""
